. /trial/common.sh
. /trial/remote-cards.sh
say bus "$(on_the_bus)"
say apparmor "$(confined)"
say state "$(member state)"
say reader "$(in_the_reader)"
say by-reader "$(signs opensc-pkcs11.so)"
does systemctl start ssh
agent
say signed-in "$(sign_in)"

# Whoever restarts pcscd once more is at its limit of five, as on a computer where this takes seconds.
mkdir /run/systemd/system/pcscd.service.d
printf '[Unit]\nStartLimitIntervalSec=1h\n' >/run/systemd/system/pcscd.service.d/limit.conf
systemctl daemon-reload
systemctl reset-failed pcscd.service
for _ in 1 2 3 4 5; do
    systemctl restart pcscd
done

cd /trial/now
export DEBIAN_FRONTEND=noninteractive
pid=$(systemctl show -P MainPID cardea)
does apt-get --yes install ./cardea*.deb
say versions "$(versions)"
say pcscd-at-its-limit "$(systemctl is-active pcscd)"
say restarted "$([ "$pid" != "$(systemctl show -P MainPID cardea)" ] && echo yes)"
say remote-upgraded "$(remote_state)"
say bus-upgraded "$(on_the_bus)"
say apparmor-upgraded "$(confined)"
say state-upgraded "$(member state)"
say tries-upgraded "$(tries)"
# The agent has found the service again by itself.
say signed-in-upgraded "$(sign_in)"

does apt-get --yes remove 'cardea*'
say removed "$(grep -F -e 'keeps the cards' -e 'cardea card destroy' -e 'NV index' /run/said)"
say kept "$(ls /var/lib/cardea/cards)"
say gone "$(ls /usr/sbin/cardea-daemon 2>&1)"
say remote-removed "$(port_135)"
say pcscd-without "$(systemctl restart pcscd && systemctl is-active pcscd)"
does apt-get --yes install ./cardea*.deb
say bus-again "$(on_the_bus)"
say remote-again "$(remote_state)"
say tries-again "$(tries)"
say reader-again "$(in_the_reader)"
say by-reader-again "$(signs opensc-pkcs11.so)"

does apt-get --yes purge 'cardea*'
say purge-refused "$(grep -F 'kept /var/lib/cardea' /run/said)"
say kept-again "$(ls /var/lib/cardea/cards)"
does apt-get --yes install ./cardea*.deb
say state-after-purge "$(member state)"
rm -r /run/systemd/system/pcscd.service.d
systemctl daemon-reload
# The administrator's own files.
rm -r /etc/systemd/system/cardea-tpmvsc.socket.d /etc/systemd/system/cardea.service.d
echo 'cardea-daemon cardea-daemon/purge-cards boolean true' | debconf-set-selections
does apt-get --yes purge 'cardea*'
say purged "$(grep -F 'deleting the cards' /run/said)"
say pcscd-after "$(systemctl restart pcscd && systemctl is-active pcscd)"
say left "$(find / -xdev -name '*cardea*' -not -path '/trial/*' -not -path '/proc/*' -print)"

say denied "$(denied)"
say failed "$(failed)"
# Not only silent: what the profile refuses is in the journal.
aa-exec --profile cardea-daemon -- cat /etc/shadow >/run/said 2>&1 || true
say denied-then "$(denied)"
say end yes
