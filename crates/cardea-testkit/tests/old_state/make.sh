#!/usr/bin/env bash
# Makes a folder of old state with the programs of another build. See README.md.
# Usage: make.sh BUILD FOLDER
#   BUILD   folder with that build's cardea, cardea-daemon and libcardea_pkcs11.so
#   FOLDER  new folder for what is kept
set -euo pipefail
build=$(realpath "$1")
mkdir "$2"
kept=$(realpath "$2")
work=$(mktemp -d)
cd "$work"
umask 077
processes=()
end() {
    for process in "${processes[@]}"; do kill "$process" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap end EXIT
wait_for() {
    for _ in $(seq 200); do [ -S "$1" ] && return; sleep 0.05; done
    echo "$1 does not appear" >&2
    exit 1
}

mkdir tpm
swtpm socket --tpm2 --flags not-need-init --tpmstate dir=tpm \
    --server type=unixio,path=tpm/sock --ctrl type=unixio,path=tpm/sock.ctrl &
processes+=($!)
wait_for tpm/sock
"$build/cardea-daemon" --state-dir "$work/state" --socket "$work/sock" --tpm "swtpm:unix=$work/tpm/sock" \
    --config /dev/null &
daemon=$!
processes+=("$daemon")
wait_for sock

export CARDEA_SOCKET=$work/sock
cardea() { "$build/cardea" "$@"; }
tool() { pkcs11-tool --module "$build/libcardea_pkcs11.so" "$@"; }
printf 271828 >pin
printf 57721566 >puk
printf 'kept since then' >note
create() { cardea card create --name "$1" --pin-file pin "${@:2}"; }
public() { cardea key export-public "$1" "$2" --out "$kept/$1.$2.pub"; }
generate() {
    cardea key generate "$1" --label "$2" --algorithm "$3" --pin-file pin "${@:4}"
    public "$1" "$2"
}
import() {
    cardea key import "$1" "$3" --label "$2" --pin-file pin
    public "$1" "$2"
}

create puk --puk-file puk
generate puk rsa rsa-2048
generate puk ec p-256
generate puk every-time p-256 --pin-every-time
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem
import puk imported-rsa rsa.pem
import puk imported-ec ec.pem
# The certificate's own signature does not matter.
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 36500 -subj /CN=Old 2>req.log
openssl x509 -new -force_pubkey "$kept/puk.rsa.pub" -CA ca.pem -CAkey ca.key -subj /CN=alice -days 36500 \
    -out "$kept/puk.rsa.pem"
cardea cert import puk "$kept/puk.rsa.pem" --pin-file pin
tool --token-label puk --login --pin 271828 --write-object note --type data --label note

create admin --admin-key default
generate admin ec p-256

create policy --puk-file puk --pin-policy min=6,max=8,digits=required --pin-tries 3 --session-limit 10m
generate policy ec p-256

create blank --blank --admin-key default

kill "$daemon"
wait "$daemon"
cp -a state "$kept/state"
mkdir "$kept/tpm"
cp tpm/tpm2-00.permall "$kept/tpm/"
