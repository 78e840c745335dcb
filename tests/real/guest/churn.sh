#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Changes that go on while the tool looks: churn.sh pools|policy|devices|memory, each a
# loop for ever that writes a line to /run/churn-NAME for every turn.

NODES=/sys/devices/system/node
POOL=hugepages/hugepages-2048kB/nr_hugepages
GIANT=/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages
POLICY=/proc/sys/vm/hugetlb_optimize_vmemmap
ND=/sys/bus/nd
DAX=/sys/bus/dax
MEMORY=/sys/devices/system/memory

# pools: huge pages of both sizes come and go
pools() {
	echo 100 > $NODES/node0/$POOL
	echo 20 > $NODES/node1/$POOL
	echo 1 > $GIANT
	echo 20 > $NODES/node0/$POOL
	echo 150 > $NODES/node1/$POOL
	echo 0 > $GIANT
	echo 60 > $NODES/node1/$POOL
}

# policy: new pages are optimised or not
policy() {
	echo $((1 - $(cat $POLICY))) > $POLICY
	sleep 0.7
}

# devices: DAX devices with and without an altmap, and fsdax, lose and find their driver
devices() {
	for device in dax0.0 dax2.0; do
		echo $device > $ND/drivers/dax_pmem/unbind
		sleep 0.2
		echo $device > $ND/drivers/dax_pmem/bind
		sleep 0.2
	done
	echo pfn3.0 > $ND/drivers/nd_pmem/unbind
	echo pfn3.0 > $ND/drivers/nd_pmem/bind
}

# memory: a DAX device becomes System RAM and a device again
memory() {
	echo online_movable > $MEMORY/auto_online_blocks
	echo dax1.0 > $DAX/drivers/device_dax/unbind
	echo dax1.0 > $DAX/drivers/kmem/new_id
	sleep 0.5
	for block in 49 50 51; do
		echo offline > $MEMORY/memory$block/state
	done
	echo dax1.0 > $DAX/drivers/kmem/unbind
	echo dax1.0 > $DAX/drivers/kmem/remove_id
	echo dax1.0 > $DAX/drivers/device_dax/bind
	sleep 0.2
}

turn=0
while :; do
	"$1"
	turn=$((turn + 1))
	echo $turn
done > "/run/churn-$1" 2>&1
