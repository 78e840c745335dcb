#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Changes that go on while the tool looks: churn.sh pools|policy|devices|memory, each a
# loop for ever that prints the number of every turn.

NODES=/sys/devices/system/node
POOL=hugepages/hugepages-2048kB/nr_hugepages
GIANT=/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages
POLICY=/proc/sys/vm/hugetlb_optimize_vmemmap
ND=/sys/bus/nd
DAX=/sys/bus/dax
MEMORY=/sys/devices/system/memory

GIANTS=$(cat $GIANT)

# set_pool PAGES FILE: make it so, then leave the reader some time
set_pool() {
	echo "$1" > "$2"
	sleep 1.5
}

# pools: huge pages of both sizes come and go
pools() {
	set_pool 100 $NODES/node0/$POOL
	set_pool 20 $NODES/node1/$POOL
	set_pool $((GIANTS + 1)) $GIANT
	set_pool 20 $NODES/node0/$POOL
	set_pool 150 $NODES/node1/$POOL
	set_pool "$GIANTS" $GIANT
	set_pool 60 $NODES/node1/$POOL
}

# policy: new pages are optimised or not
policy() {
	echo $((1 - $(cat $POLICY))) > $POLICY
	sleep 1.1
}

# again DRIVER DEVICE: take a device from its driver and give it back
again() {
	echo "$2" > "$ND/drivers/$1/unbind"
	sleep 2
	echo "$2" > "$ND/drivers/$1/bind"
	sleep 2
}

# devices: DAX devices with and without an altmap, and fsdax
devices() {
	again dax_pmem dax0.0
	again dax_pmem dax2.0
	again nd_pmem pfn3.0
}

# memory: a DAX device becomes System RAM, whole blocks of it, and a device again
memory() {
	echo online_movable > $MEMORY/auto_online_blocks
	echo dax1.0 > $DAX/drivers/device_dax/unbind
	echo dax1.0 > $DAX/drivers/kmem/new_id
	sleep 2.5
	for block in 49 50 51; do
		[ -e $MEMORY/memory$block ] || continue
		[ "$(cat $MEMORY/memory$block/state)" = offline ] ||
			echo offline > $MEMORY/memory$block/state
	done
	echo dax1.0 > $DAX/drivers/kmem/unbind
	echo dax1.0 > $DAX/drivers/kmem/remove_id
	echo dax1.0 > $DAX/drivers/device_dax/bind
	sleep 2.5
}

turn=0
while :; do
	"$1"
	turn=$((turn + 1))
	echo $turn
done
