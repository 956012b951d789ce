# What the scripts of all boots have in common. A fact is a line NAME=VALUE.
say() {
    printf '%s=%s\n' "$1" "$(printf %s "$2" | tr '\n' ' ')"
}

# What a command says that must fail.
refused() {
    name=$1
    shift
    if "$@" >/run/said 2>&1; then
        say "$name" 'it succeeded'
    else
        say "$name" "$(cat /run/said)"
    fi
}

# A member of what is known of a card.
member() {
    cardea card show "$1" --json >/run/card
    sed -n "s/^ *\"$2\": *\"\{0,1\}\([^,\"]*\).*/\1/p" /run/card
}

tries() {
    cardea card show Disks --json >/run/card
    sed -n '/"pin": {/,/}/s/^ *"left": \([0-9]*\).*/\1/p' /run/card
}

# The TPM's own counter, which cards do not touch.
lockout() {
    cardea tpm status --json >/run/status
    sed -n '/"lockout": {/,/}/s/^ *"count": \([0-9]*\).*/\1/p' /run/status
}

# Monotonic time of a change of a unit, in microseconds.
at() {
    systemctl show -P "$1TimestampMonotonic" "$2"
}

# What AppArmor has refused to anyone.
denied() {
    journalctl --quiet --no-pager --dmesg --output cat | grep -F 'apparmor="DENIED"' || true
}
