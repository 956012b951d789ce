. /trial/common.sh
pid=$(systemctl show -P MainPID cardea)
say user "$(stat -c %U "/proc/$pid")"
say capabilities "$(sed -n 's/^CapEff:[[:space:]]*//p' "/proc/$pid/status")"
say seccomp "$(sed -n 's/^Seccomp:[[:space:]]*//p' "/proc/$pid/status")"
say apparmor "$(cat "/proc/$pid/attr/current")"
say new-privileges "$(sed -n 's/^NoNewPrivs:[[:space:]]*//p' "/proc/$pid/status")"
refused etc nsenter -t "$pid" -m touch /etc/cardea/trial
refused tmp nsenter -t "$pid" -m setpriv --reuid cardea --clear-groups ls /tmp/
refused home nsenter -t "$pid" -m setpriv --reuid cardea --clear-groups ls /home/
# Its devices, for a process in its control group.
group=/sys/fs/cgroup/system.slice/cardea.service/cgroup.procs
refused disk sh -c "echo \$\$ > $group; head -c 1 /dev/vdb"
refused raw-tpm sh -c "echo \$\$ > $group; : <> /dev/tpm0"
sh -c "echo \$\$ > $group; : <> /dev/tpmrm0"
say driver "$(basename "$(readlink /sys/class/tpm/tpm0/device/driver)")"

. /trial/page.card
cardea card create --name Ada --owner 1000 --pin-file pin
. /trial/page.volume
. /trial/page.start
echo 'a secret of the computer' >/srv/secret
. /trial/page.removable
. /trial/page.use
echo 'a secret of the drive' >/mnt/secret
. /trial/page.after
say lockout "$(lockout)"
say asked "$(cat /run/asked)"
say denied "$(denied)"
say end yes
