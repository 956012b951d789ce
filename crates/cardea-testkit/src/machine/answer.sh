#!/bin/sh
# Somebody at the keyboard who is asked for passwords (systemd-ask-password(1), “Password Agents”). What is asked
# goes to /run/asked. A question for a PIN gets the next line of /run/pins, then the file pin; every other one the
# file passphrase. The first PINs of a boot may be given beforehand.
trial=$(cat /run/trial)
cp "/trial/$trial.pins" /run/pins 2>/dev/null || : >/run/pins
: >/run/asked
while :; do
    for question in /run/systemd/ask-password/ask.*; do
        [ -e "$question" ] || continue
        socket=$(sed -n 's/^Socket=//p' "$question")
        message=$(sed -n 's/^Message=//p' "$question")
        case $message in
        *PIN*)
            answer=$(head -n 1 /run/pins)
            sed -i 1d /run/pins
            answer=${answer:-$(cat /trial/pin)}
            ;;
        *) answer=$(cat /trial/passphrase) ;;
        esac
        echo "$message" >>/run/asked
        printf %s "$answer" | /lib/systemd/systemd-reply-password 1 "$socket"
        rm -f "$question"
    done
    sleep 0.2
done
