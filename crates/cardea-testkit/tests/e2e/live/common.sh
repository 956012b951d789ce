# What the scripts of both starts have in common. A fact is a line NAME=VALUE; the console has its time.
say() {
    read -r uptime _ </proc/uptime
    echo "$uptime $1" >&2
    printf '%s=%s\n' "$1" "$(printf %s "$2" | tr '\n' ' ')"
}

# Where files go.
at=${at:-/run}

# A command that succeeds; if it fails, the console has what it says.
does() {
    "$@" >"$at/said" 2>&1 || {
        code=$?
        cat "$at/said" >&2
        return "$code"
    }
}

as() {
    user=$1
    shift
    runuser -u "$user" -- "$@"
}

# Whether the name comes to the bus within five seconds of the system's clock.
on_the_bus() {
    end=$(($(cut -d. -f1 /proc/uptime) + 5))
    until busctl --no-pager status org.cardea.VirtualSmartCard1 >/run/said 2>&1; do
        if [ "$(cut -d. -f1 /proc/uptime)" -gt "$end" ]; then
            cat /run/said
            return
        fi
    done
    echo yes
}

versions() {
    dpkg-query -W -f '${Version} ' cardea cardea-agent cardea-daemon cardea-doc cardea-ifd cardea-pkcs11 cardea-tpmvsc
}

# A member of what is known of the card.
member() {
    cardea card show Bob --json | sed -n "s/^ *\"$1\": *\"\{0,1\}\([^,\"]*\).*/\1/p"
}

tries() {
    cardea card show Bob --json | sed -n '/"pin": {/,/}/s/^ *"left": \([0-9]*\).*/\1/p'
}

module() {
    dpkg -L cardea-pkcs11 | grep '/libcardea_pkcs11.so$'
}

# The PIN's dialog on a terminal that Bob sits at; what is typed comes from descriptor 3.
agent() {
    install -o bob /dev/null /run/screen
    mkfifo /run/keys
    as bob env TERM=xterm LC_ALL=C.UTF-8 script --quiet --flush --append \
        --command 'stty rows 40 columns 100; cardea-agent --pinentry pinentry-curses' /run/screen \
        </run/keys >/run/agent.out 2>&1 &
    exec 3>/run/keys
    until grep -aq registered /run/screen; do
        sleep 1
    done
}

# Bob signs in by ssh; the module leaves the PIN to the agent.
sign_in() {
    shown=$(wc -c </run/screen)
    as bob ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PKCS11Provider="$(module)" \
        bob@127.0.0.1 'echo "$USER is in"' >/run/ssh 2>/run/ssh.err </dev/null 3>&- &
    ssh=$!
    until tail -c "+$((shown + 1))" /run/screen | grep -aq 'ssh'; do
        kill -0 "$ssh" || break
        sleep 1
    done
    # The dialog reads what is typed after it was drawn.
    sleep 0.5
    printf '%s\r' "$(cat /trial/pin)" >&3
    wait "$ssh" || cat /run/ssh.err /run/screen >&2
    cat /run/ssh
}

# A signature through a PKCS#11 module, compared with the exported key.
signs() {
    echo signed >"$at/text"
    does pkcs11-tool --module "$1" --login --pin "$(cat /trial/pin)" --sign --mechanism SHA256-RSA-PKCS \
        --input-file "$at/text" --output-file "$at/signature" &&
        openssl dgst -sha256 -verify /var/lib/bob.pem -signature "$at/signature" "$at/text"
}

# The reader shows the card as soon as it has noticed it.
in_the_reader() {
    tries=0
    until pkcs15-tool --list-keys >/run/said 2>&1 || [ "$tries" = 20 ]; do
        tries=$((tries + 1))
        sleep 0.5
    done
    cat /run/said
}

# Whether anybody listens on port 135, which is 0x0087.
port_135() {
    if cat /proc/net/tcp /proc/net/tcp6 | grep -q ':0087 [0-9A-F:]* 0A '; then
        echo open
    else
        echo closed
    fi
}

# How AppArmor confines the service.
confined() {
    cat "/proc/$(systemctl show -P MainPID cardea)/attr/current"
}

# What AppArmor has refused to anyone since the start.
denied() {
    journalctl --quiet --no-pager --boot --output cat | grep -F 'apparmor="DENIED"' || true
}

failed() {
    systemctl list-units --failed --plain --no-legend
}
