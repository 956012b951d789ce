. /trial/common.sh
# The start does not wait for the volume.
until mountpoint -q /srv; do
    sleep 0.2
done
say secret "$(cat /srv/secret)"
say asked "$(cat /run/asked)"
say tries "$(tries)"
say bound "$(cat /run/bound)"
say ready "$(at ActiveEnter cardea)"
say started "$(at InactiveExit cardea)"
say volume "$(at InactiveExit systemd-cryptsetup@data)"
say bus "$(at ActiveEnter dbus)"
say early "$(cat /run/early)"
say slot "$(member Disks slot)"
say slot-of-person "$(member Ada slot)"
say logind "$(systemctl is-active systemd-logind)"
say others "$(setpriv --reuid 65534 --clear-groups cardea card list --json)"
say logged "$(journalctl --quiet --no-pager --unit cardea --output cat | grep -c 'on the bus')"

say apparmor "$(cat "/proc/$(systemctl show -P MainPID cardea)/attr/current")"

# The service ends in mid-life; systemd starts it again.
systemctl kill --signal KILL cardea
while [ "$(systemctl show -P NRestarts cardea)" = 0 ] || ! systemctl is-active --quiet cardea; do
    sleep 0.2
done
. /trial/page.use
say stick "$(cat /mnt/secret)"
. /trial/page.after

# At the keyboard it asks until the PIN is right.
: >/run/asked
printf '%s\n' 000001 000002 000003 >/run/pins
/lib/systemd/systemd-cryptsetup attach stick /dev/vdc none pkcs11-uri=auto,token-timeout=10s
/lib/systemd/systemd-cryptsetup detach stick
say asked-again "$(wc -l </run/asked)"
say tries-right "$(tries)"

# One PIN, given beforehand; nobody gets in by the passphrase where the card refuses.
mv passphrase passphrase.kept
echo wrong >passphrase
with_pin() {
    PIN=$1 timeout 60 /lib/systemd/systemd-cryptsetup attach stick /dev/vdc none \
        pkcs11-uri=auto,token-timeout=10s,headless=true,tries=1
}
refused wrong with_pin 000001
say tries-wrong "$(tries)"
for pin in 000002 000003 000004 000005; do
    refused "wrong-$pin" with_pin "$pin"
done
refused blocked with_pin "$(cat pin)"
say tries-blocked "$(tries)"
mv passphrase.kept passphrase
. /trial/page.passphrase
mount /dev/mapper/stick /mnt
say by-passphrase "$(cat /mnt/secret)"
. /trial/page.after
. /trial/page.unblock
. /trial/page.use
say unblocked "$(cat /mnt/secret)"
. /trial/page.after
say lockout "$(lockout)"
say denied "$(denied)"
say end yes
