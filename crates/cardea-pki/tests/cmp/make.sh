#!/bin/bash
# Makes the messages in this folder again: OpenSSL's client and mock server (3.0), in a network of their own.
# Run it in this folder as root: unshare -n ./make.sh
set -eu
ip link set lo up
work=$(mktemp -d)
here=$(pwd)
cd "$work"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 36500 -subj "/CN=CMP CA" \
    -addext keyUsage=keyCertSign,digitalSignature 2>/dev/null
issue() { # name, extensions, further arguments of openssl req
    name=$1 ext=$2; shift 2
    openssl req -new -nodes -keyout "$name.key" -out "$name.csr" "$@" 2>/dev/null
    printf '%s\n' "$ext" > "$name.ext"
    openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 36500 -extfile "$name.ext" -out "$name.crt" 2>/dev/null
}
issue srv 'subjectKeyIdentifier=hash
extendedKeyUsage=1.3.6.1.5.5.7.3.28,1.3.6.1.5.5.7.3.27' -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj "/CN=CMP RA"
issue ee 'subjectKeyIdentifier=hash
extendedKeyUsage=clientAuth' -newkey rsa:2048 -subj "/CN=Ada"
serve() {
    openssl cmp -port 8829 -srv_ref 123 -srv_secret pass:sesame -srv_cert srv.crt -srv_key srv.key -srv_trusted ca.crt \
        -rsp_cert ee.crt -rsp_extracerts ca.crt -rsp_capubs ca.crt -max_msgs 40 "$@" >/dev/null 2>&1 &
    server=$!
    until (exec 3<>/dev/tcp/127.0.0.1/8829) 2>/dev/null || nc -z 127.0.0.1 8829 2>/dev/null; do sleep 0.1; done
}
stop() { kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; }
client() { # name of the files, then arguments
    name=$1; shift
    openssl cmp -server 127.0.0.1:8829 -path pkix/ "$@" -certout out.crt \
        -reqout "$name.req1.der,$name.req2.der,$name.req3.der,$name.req4.der" \
        -rspout "$name.rsp1.der,$name.rsp2.der,$name.rsp3.der,$name.rsp4.der" >/dev/null 2>&1 || true
}
secret="-ref 123 -secret pass:sesame"
signed="-cert ee.crt -key ee.key -trusted ca.crt"
serve
client p10cr -cmd p10cr $secret -csr ee.csr
client ir -cmd ir $secret -newkey ee.key -subject /CN=Ada
client kur -cmd kur $signed -newkey ee.key
client rr -cmd rr $signed -oldcert ee.crt -revreason 4
client wrong -cmd p10cr -ref 123 -secret pass:wrong -csr ee.csr
stop
serve -poll_count 1 -check_after 1
client poll -cmd p10cr $secret -csr ee.csr
stop
serve -pkistatus 2 -failurebits 512 -statusstring no
client refused -cmd p10cr $secret -csr ee.csr
stop
serve -send_error
client error -cmd p10cr $secret -csr ee.csr
stop
openssl x509 -in ee.crt -outform DER -out ee.crt.der
openssl x509 -in srv.crt -outform DER -out srv.crt.der
openssl x509 -in ca.crt -outform DER -out ca.crt.der
openssl req -in ee.csr -outform DER -out ee.csr.der
cp ./*.der "$here"
