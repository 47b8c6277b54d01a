# shellcheck shell=bash
# Read by the scripts of this directory: an overlay of this machine's root, or of
# LOWER, at $root until the script ends. $dir is for what is kept beside it.
dir=$(mktemp -d)
root=$dir/fs/root

fail() {
  echo "FAILED  $*" >&2
  exit 1
}

finish() {
  mountpoint -q "$root" && umount "$root"
  mountpoint -q "$dir/fs" && umount "$dir/fs"
  rm -rf "$dir"
}
trap finish EXIT

mkdir "$dir/fs"
mount -t tmpfs -o size=2g,mode=755 listener-packages "$dir/fs"
mkdir "$dir/fs/upper" "$dir/fs/work" "$root"
mount -t overlay listener-packages -o "lowerdir=${LOWER:-/},upperdir=$dir/fs/upper,workdir=$dir/fs/work" "$root"
[[ -c $root/dev/null ]] || mknod -m 666 "$root/dev/null" c 1 3

# changed lists what is not as below the overlay: new, gone, of another content,
# mode or owner. What package managers write for themselves does not count.
changed() {
  local upper=$dir/fs/upper lower=${LOWER:-/} path
  (cd "$upper" && find . -mindepth 1 \( -path './var/lib/dpkg' -o -path './var/lib/rpm' -o -path './var/cache' -o -path './var/log' \
    -o -path ./tmp -o -path ./dev \) -prune -o -print) | while read -r path; do
    path=${path#.}
    if [[ -d $upper$path && ! -L $upper$path ]]; then
      [[ -d $lower$path && $(stat -c '%a %u %g' "$upper$path") == "$(stat -c '%a %u %g' "$lower$path")" ]] || echo "$path"
    else
      [[ -e $lower$path && $(stat -c '%a %u %g %F' "$root$path" 2>&1) == "$(stat -c '%a %u %g %F' "$lower$path")" ]] &&
        cmp -s "$root$path" "$lower$path" || echo "$path"
    fi
  done | sort
}
