# The service for other machines, from its first account on.

# A command that asks at a terminal for a password, which is typed twice.
asked_twice() {
    mkfifo /run/typed
    : >/run/asked
    script --quiet --flush --append --command "sh -e $1" /run/asked </run/typed >/run/asked.out 2>&1 &
    asking=$!
    exec 4>/run/typed
    for question in 'password: ' 'password again: '; do
        until grep -aq "$question" /run/asked; do
            kill -0 "$asking"
            sleep 0.5
        done
        printf '%s\r' "$(cat /trial/password)" >&4
    done
    wait "$asking"
    exec 4>&-
}

# The socket as systemd has it, whether it comes with the next start, and its port.
remote_state() {
    echo "$(systemctl is-active cardea-tpmvsc.socket) $(systemctl is-enabled cardea-tpmvsc.socket) $(port_135)"
}

# A network card with an address.
join_network() {
    modprobe virtio_net
    printf '[Match]\nType=ether\n[Network]\nAddress=10.0.2.15/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
        >/run/systemd/network/10-trial.network
    systemctl start systemd-networkd
    until grep -q 10.0.2.15 /proc/net/fib_trie; do
        sleep 0.5
    done
}

audited() {
    cardea audit --json | grep -F "\"event\":\"$1\"" | grep -F '"principal":' || true
}

remote_cards() {
    mkdir -p /run/systemd/network
    join_network
    say remote-network yes
    # Without an account it does not start.
    systemctl start cardea-tpmvsc.service >/dev/null 2>&1 || true
    say remote-without-account "$(systemctl is-failed cardea-tpmvsc.service)"
    systemctl stop cardea-tpmvsc.socket
    systemctl reset-failed cardea-tpmvsc.service
    say remote-folder "$(stat -c '%U %G %a' /etc/cardea/tpmvsc)"
    asked_twice /trial/page.remote-account
    say remote-account "$(cut -d ' ' -f 1,3 /etc/cardea/tpmvsc/accounts)"

    # The TPM has authorisations by now. The daemon needs the owner's for cards that nobody makes who has it.
    mkdir /etc/systemd/system/cardea.service.d
    printf '[Service]\nLoadCredential=owner-auth:/root/NEW-FILE\n' >/etc/systemd/system/cardea.service.d/owner.conf

    # Callers know the machine by another address than its own.
    echo 'names = ["127.0.0.1"]' >>/etc/cardea/tpmvsc.toml
    install -D -m 644 /trial/page.remote-limit /etc/systemd/system/cardea-tpmvsc.socket.d/limit.conf
    systemctl daemon-reload
    systemctl restart cardea
    does sh -e /trial/page.remote-socket
    # The limit of the page is for callers from elsewhere: this computer's own loopback is such.
    say remote-strangers "$(timeout 3 bash -c 'exec 5<>/dev/tcp/127.0.0.1/135; echo in' 2>&1 || echo "ended with $?")"
    say remote-ready "$(remote_state)"
    until [ -n "$(audited card-destroyed)" ]; do
        sleep 1
    done
    say remote-card-created "$(audited card-created)"
    say remote-card-destroyed "$(audited card-destroyed)"
    process=/proc/$(systemctl show -P MainPID cardea-tpmvsc)
    say remote-user "$(stat -c %U "$process")"
    say remote-capabilities "$(sed -n 's/^CapEff:\t//p' "$process/status")"
    say remote-apparmor "$(cat "$process/attr/current")"
    say remote-exposure "$(systemd-analyze security --no-pager cardea-tpmvsc.service |
        sed -n 's/.* exposure level for [^:]*: \([0-9.]*\) .*/\1/p')"
}
