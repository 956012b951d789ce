. /trial/common.sh
say driver "$(basename "$(readlink /sys/class/tpm/tpm0/device/driver)")"
# The start does not wait for the volume.
until mountpoint -q /srv; do
    sleep 0.2
done
say state "$(member Disks state)"
say secret "$(cat /srv/secret)"
say asked "$(cat /run/asked)"
mv passphrase passphrase.kept
echo wrong >passphrase
refused stick /lib/systemd/systemd-cryptsetup attach stick /dev/vdc none pkcs11-uri=auto,token-timeout=2s
mv passphrase.kept passphrase
refused closed test -e /dev/mapper/stick
say end yes
