#!/bin/sh
# First program of an installed system's machine: what the root file system takes, then systemd. Leaves the name
# of the script that is to run in /run/trial.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do
    insmod "/modules/$module"
done </modules.order
mount -t ext4 /dev/vda /root
mount -t tmpfs -o mode=755 run /root/run
echo "$1" >/root/run/trial
if [ -e "/root/trial/$1.early" ]; then
    . "/root/trial/$1.early"
fi
umount /sys /proc
mount --move /dev /root/dev
exec switch_root /root /lib/systemd/systemd
