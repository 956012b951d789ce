#!/bin/sh
# First program of the virtual machine: drivers, the disk, then the program under test with its report on the
# second serial port. Switches the machine off when that program has ended, unless power is cut before.
/bin/busybox --install -s /bin
export PATH=/bin CARDEA_BIN_DIR=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tracefs tracing /sys/kernel/tracing
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
while read -r module; do
    insmod "/modules/$module"
done </modules.order
mount -t ext4 /dev/vda /disk
main "$1" >/dev/ttyS1
echo "the program has ended with $?"
sync
umount /disk
poweroff -f
