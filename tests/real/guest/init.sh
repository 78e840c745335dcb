#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# /init of the guest: load modules, make DAX namespaces and a mix of huge pages, write
# down what the kernel says about them, and wait to be dumped.
#
# The record is a text of parts, each opened by a line "@@ NAME"; "@@ end" closes it.

/bin/busybox mkdir -p /proc /sys /dev /run /huge-2M /huge-1G
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t debugfs debugfs /sys/kernel/debug
mount -t hugetlbfs -o pagesize=2M hugetlbfs /huge-2M
mount -t hugetlbfs -o pagesize=1G hugetlbfs /huge-1G

RECORD=/run/record
NODES=/sys/devices/system/node
POOL=hugepages/hugepages-2048kB/nr_hugepages
ND=/sys/bus/nd/devices
DAX=/sys/bus/dax

# asked WORD: whether the command line has vmemmap_tools.WORD=1
asked() { grep -q "vmemmap_tools.$1=1" /proc/cmdline; }

say() { echo "vmemmap-tools: $*" > /dev/console; }

# wait_for SECONDS COMMAND...: try until it succeeds
wait_for() {
	tries=$(($1 * 10))
	shift
	until "$@" 2> /dev/null; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.1
	done
}

# ---- modules -------------------------------------------------------------------------

while read -r module; do
	[ -e "/modules/$module.ko" ] || continue
	insmod "/modules/$module.ko" > /run/insmod 2>&1 ||
		echo "$module $(cat /run/insmod)" >> /run/modules-failed
done < /modules/order

# ---- huge pages ----------------------------------------------------------------------

# step NAME: how many 2M pages each node has after what NAME describes
step() {
	echo "$1" $(cat $NODES/node0/$POOL $NODES/node1/$POOL) >> /run/steps
}

# resize NODE CHANGE
resize() {
	echo $(($(cat "$NODES/node$1/$POOL") + $2)) > "$NODES/node$1/$POOL"
}

step boot
resize 1 16
step grow-16-node1
echo 0 > /proc/sys/vm/hugetlb_optimize_vmemmap
resize 1 8
step grow-8-node1-plain
echo 1 > /proc/sys/vm/hugetlb_optimize_vmemmap
resize 0 -8
step shrink-8-node0

# ---- DAX -----------------------------------------------------------------------------

has_driver() { [ -e "$ND/$1/driver" ]; }

# set_attribute DEVICE NAME VALUE: write, and note what was refused
set_attribute() {
	echo "$3" > "$ND/$1/$2" 2> /dev/null ||
		echo "$1 refused $2=$3" >> /run/nd-refused
}

# namespace REGION SEED DRIVER MODE ALIGN: claim the region's namespace
namespace() {
	space=namespace$1.0
	wait_for 5 has_driver "$space" || echo "$space has no driver" >> /run/nd-refused
	echo "$space" > "$ND/$space/driver/unbind"
	seed=$(cat "$ND/region$1/$2")
	set_attribute "$seed" uuid "$(cat /proc/sys/kernel/random/uuid)"
	set_attribute "$seed" mode "$4"
	set_attribute "$seed" align "$5"
	set_attribute "$seed" namespace "$space"
	echo "$seed" > "/sys/bus/nd/drivers/$3/bind" ||
		echo "$seed refused bind to $3" >> /run/nd-refused
	echo "$1 $seed $3 $4 $5" >> /run/nd-wanted
}

namespace 0 dax_seed dax_pmem ram 1073741824
namespace 1 dax_seed dax_pmem ram 2097152
namespace 2 dax_seed dax_pmem pmem 2097152
namespace 3 pfn_seed nd_pmem ram 2097152
if asked partial; then
	namespace 4 dax_seed dax_pmem ram 2097152
	namespace 5 dax_seed dax_pmem pmem 2097152
fi

# as_memory DEVICE: give a DAX device to the kmem driver and online all of it
as_memory() {
	echo "$1" > $DAX/drivers/device_dax/unbind
	echo "$1" > $DAX/drivers/kmem/new_id
	for block in /sys/devices/system/memory/memory*; do
		[ "$(cat "$block/state")" = offline ] || continue
		echo online > "$block/state"
		echo "${block##*/}" >> /run/onlined
	done
}

# ---- pages in use --------------------------------------------------------------------

has_finished() { grep -q done "/run/held/$1"; }

# hold NAME ARGUMENTS...: keep pages in a process, their addresses in /run/held/NAME
mkdir /run/held
keep() {
	name=$1
	shift
	hold "$@" > "/run/held/$name" 2> "/run/held-error-$name" &
	echo "$! $name" >> /run/holders
	wait_for 30 has_finished "$name" || say "cannot hold $name"
}

# tell_again: where the pages in use are now; they move when memory goes offline
tell_again() {
	while read -r pid name; do
		: > "/run/held/$name"
		kill -USR1 "$pid"
		wait_for 30 has_finished "$name" || say "cannot say where $name is"
	done < /run/holders
}

keep file file /huge-2M/held 4
keep anon anon 3
asked hosted && echo 1 > $DAX/devices/dax1.0/memmap_on_memory
if asked kmem; then
	as_memory dax1.0
else
	keep dax1.0 dax /dev/dax1.0 2097152 2
fi
keep dax2.0 dax /dev/dax2.0 2097152 2

# ---- rarer things, each behind a word of the command line ----------------------------

# attempt COMMAND...: note whether it succeeded, and why not
attempt() {
	if why=$(eval "$*" 2>&1); then
		echo "ok $*" >> /run/attempts
	else
		echo "failed $*: $why" >> /run/attempts
	fi
}

NODE_2M=hugepages/hugepages-2048kB
NODE_1G=hugepages/hugepages-1048576kB

# A gigantic page given back, made again at run time and demoted; pages beyond the pool.
gigantic() { echo "1G pages" $(cat $NODES/node*/$NODE_1G/nr_hugepages); }

if asked pools; then
	for pages in 0 1; do
		attempt "echo $pages > $NODES/node1/$NODE_1G/nr_hugepages"
		gigantic >> /run/attempts
	done
	attempt "echo 1 > $NODES/node1/$NODE_1G/demote"
	step demote-node1
	attempt "echo 100 > $NODES/node1/$NODE_2M/nr_hugepages"
	step to-100-node1
	attempt "echo 20 > /proc/sys/vm/nr_overcommit_hugepages"
	free=$(cat /sys/kernel/mm/$NODE_2M/free_hugepages)
	keep surplus anon $((free + 6))
	step surplus-6
fi

# The last block of memory that hosts its own vmemmap goes offline again.
if asked hosted; then
	block=$(tail -n 1 /run/onlined)
	attempt "echo offline > /sys/devices/system/memory/$block/state"
fi

# Memory that goes offline and stays, and memory that is removed and added again.
if asked remove; then
	for block in /sys/devices/system/memory/memory*; do
		case $(cat "$block/valid_zones") in
		*Movable*) ;;
		*) continue ;;
		esac
		grep -q "${block##*/}" /run/onlined 2> /dev/null && continue
		attempt "echo offline > $block/state"
		break
	done
	step offline
	for block in $(cat /run/onlined 2> /dev/null); do
		attempt "echo offline > /sys/devices/system/memory/$block/state"
	done
	if asked kmem; then
		attempt "echo dax1.0 > $DAX/drivers/kmem/unbind"
		attempt "echo dax1.0 > $DAX/drivers/kmem/remove_id"
		attempt "echo dax1.0 > $DAX/drivers/device_dax/bind"
	fi
fi

# ---- the record ----------------------------------------------------------------------

part() { echo "@@ $1"; }

# values FILES...: "PATH:VALUE" of each that can be read
values() { grep -H . "$@" 2> /dev/null; }

links() {
	for link in "$@"; do
		[ -e "$link" ] && echo "$link:$(readlink "$link")"
	done
}

SYMBOLS='mem_section|vmemmap_base|page_offset_base|vmalloc_base|phys_base|init_top_pgt'
SYMBOLS="$SYMBOLS|node_data|hstates|hugetlb_optimize_vmemmap_key"
SYMBOLS="$SYMBOLS|vmemmap_optimize_enabled|nr_memmap_pages|nr_memmap_boot_pages"
SYMBOLS="$SYMBOLS|swapper_pg_dir|level4_kernel_pgt|_text|_stext|_etext|_end"

record() {
	part uname
	uname -s; uname -n; uname -r; uname -v; uname -m
	part cmdline; cat /proc/cmdline
	part cpuflags; grep -m1 '^flags' /proc/cpuinfo
	part kallsyms; grep -E " ($SYMBOLS)\$" /proc/kallsyms
	part iomem; cat /proc/iomem
	part zoneinfo; cat /proc/zoneinfo
	part buddyinfo; cat /proc/buddyinfo
	part vmstat; cat /proc/vmstat
	part meminfo; cat /proc/meminfo
	part modules; cat /proc/modules
	part modules-failed; cat /run/modules-failed 2> /dev/null
	part module-text; values /sys/module/*/sections/.text
	part vmcoreinfo; cat /sys/kernel/vmcoreinfo
	part hugetlb-optimize; cat /proc/sys/vm/hugetlb_optimize_vmemmap
	part hugetlb
	values /sys/kernel/mm/hugepages/*/* $NODES/node*/hugepages/*/*
	part steps; cat /run/steps
	part attempts; cat /run/attempts 2> /dev/null
	part node-meminfo; cat $NODES/node*/meminfo
	part memory
	values /sys/devices/system/memory/block_size_bytes \
		/sys/devices/system/memory/auto_online_blocks
	values $MEMORY/phys_index $MEMORY/state $MEMORY/valid_zones
	part memory-nodes; ls -d $MEMORY/node*
	part onlined; cat /run/onlined 2> /dev/null
	part nd-wanted; cat /run/nd-wanted
	part nd-refused; cat /run/nd-refused 2> /dev/null
	part nd
	for name in devtype modalias mode align namespace resource size holder \
		supported_alignments numa_node target_node uuid; do
		set -- "$@" $ND/*/$name
	done
	values "$@"
	part dax
	values $DAX/devices/*/align $DAX/devices/*/size $DAX/devices/*/resource \
		$DAX/devices/*/target_node $DAX/devices/*/numa_node \
		$DAX/devices/*/memmap_on_memory $DAX/devices/*/mapping*/start \
		$DAX/devices/*/mapping*/end $DAX/devices/*/mapping*/page_offset
	part dax-links; links $DAX/devices/*/driver
	tell_again
	part held; values /run/held/*
	part held-errors; values /run/held-error-*
	part kpageflags; hold kpageflags
	part dmesg; dmesg
	part end
}

MEMORY='/sys/devices/system/memory/memory*'

port_exists() { PORT=$(grep -lx truth /sys/class/virtio-ports/*/name); }

send() {
	wait_for 10 port_exists || {
		say "failed: no port for the record"
		return
	}
	port=${PORT%/name}
	wait_for 5 test -e "/dev/${port##*/}"
	cat $RECORD > "/dev/${port##*/}"
	sync
	echo 3 > /proc/sys/vm/drop_caches
	say ready
}

record > $RECORD
send
[ ! -x /agent ] || /agent > /run/agent 2>&1 || say "failed: the agent: $(cat /run/agent)"
if asked spin; then
	# Both CPUs run a program, which a debugger then finds them in.
	for _ in 1 2; do while :; do :; done & done
fi
while :; do sleep 3600; done
