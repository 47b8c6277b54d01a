#!/bin/sh
# node-settings.sh aws|google
#
# Asks the metadata server of the cloud who this machine is, and writes node,
# region and host to /etc/listener/conf.d/10-node.toml. What it does not learn
# stays as the file had it; else the setting is left out, and the agent takes
# its default: the host name, "default", the address of the route to the store.
#
# Each request ends after 2 seconds, and when the first gets no answer there is
# no other. It says on standard error what it did not get, and always exits 0:
# no boot fails for it. Run again it changes nothing, unless the answers do.
set -u
LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 022

server=${LISTENER_METADATA_URL:-http://169.254.169.254}
seconds=${LISTENER_METADATA_SECONDS:-2}
place=${LISTENER_REGION_IS:-region} # or zone: what `region` of the settings shall be
dir=${LISTENER_CONF_D:-/etc/listener/conf.d}
file=$dir/10-node.toml
temp=$dir/.10-node.toml.$$ # the agent skips names that begin with a dot

say() { echo "node-settings: $*" >&2; }

# request HEADER CURL-ARGUMENT…: prints the answer; fails without a whole one.
# The header goes by standard input: other users see the arguments of commands.
# The limit on a file's size ends an answer that never does.
request() {
	header=$1
	shift
	printf '%s\n' "$header" | (
		ulimit -f 16
		exec curl -q -sS -f --noproxy '*' --max-time "$seconds" -H @- -o "$temp.answer" "$@"
	) || return 1
	cat "$temp.answer"
}

# A value is taken only if it has none but these characters, of which TOML
# escapes none: nobody who answers in the server's place can add a setting.
name() {
	case $1 in
	'' | [.-]* | localhost | localhost.* | *[!a-z0-9._-]*) return 1 ;;
	esac
	[ "${#1}" -le 253 ]
}
address() {
	case $1 in
	*[!0-9.]* | .* | *. | *..* | *.*.*.*.*) return 1 ;;
	*.*.*.*) [ "${#1}" -le 15 ] ;;
	*) return 1 ;;
	esac
}

aws() {
	token=$(request 'X-aws-ec2-metadata-token-ttl-seconds: 60' -X PUT "$server/latest/api/token") || return
	case $token in
	'' | *[!A-Za-z0-9+/=_-]*) return ;; # it becomes a header
	esac
	token="X-aws-ec2-metadata-token: $token"
	url=$server/latest/meta-data
	node=$(request "$token" "$url/instance-id") # never used again, unlike names made of addresses
	host=$(request "$token" "$url/local-ipv4")
	case $place in
	zone) region=$(request "$token" "$url/placement/availability-zone") ;;
	*) region=$(request "$token" "$url/placement/region") ;;
	esac
}

google() {
	flavor='Metadata-Flavor: Google'
	url=$server/computeMetadata/v1/instance
	node=$(request "$flavor" "$url/hostname") || return # with zone and project
	host=$(request "$flavor" "$url/network-interfaces/0/ip")
	region=$(request "$flavor" "$url/zone") # projects/NUMBER/zones/europe-west1-b
	region=${region##*/}
	case $place in
	zone) ;;
	*) region=${region%-*} ;;
	esac
}

good() {
	case $1 in
	host) address "$2" ;;
	*) name "$2" ;;
	esac
}

# setting KEY VALUE: the line for the value if it is good; else for the one that
# the file has; else none.
setting() {
	value=$2
	if ! good "$1" "$value"; then
		value=$(sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" "$file" 2>/dev/null)
		if ! good "$1" "$value"; then
			say "no $1 from the metadata server; the agent takes its default"
			return
		fi
		say "no $1 from the metadata server; it stays $value"
	fi
	printf '%s = "%s"\n' "$1" "$value"
}

settings() {
	echo "# Written by node-settings.sh $1 from the machine's metadata; files with later names count above it."
	setting node "$node"
	setting region "$region"
	setting host "$host"
}

write() {
	settings "$1" >"$temp" || return
	cmp -s "$temp" "$file" && return
	[ ! -d "$file" ] && chmod 0644 "$temp" && mv -f "$temp" "$file"
}

node='' region='' host=''
trap 'rm -f "$temp" "$temp.answer"' EXIT
trap 'exit 0' HUP INT TERM
mkdir -p "$dir" || exit 0
case ${1-} in
aws) aws ;;
google) google ;;
*)
	say "usage: node-settings.sh aws|google; nothing is written"
	exit 0
	;;
esac
write "$1" || say "$file could not be written"
exit 0
