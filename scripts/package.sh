#!/usr/bin/env bash
# Makes packages and what a release has into dist/: scripts/package.sh deb|rpm|release
#
# deb, rpm  packages for amd64 and arm64 (ARCHES="amd64" for one of them)
# release   both, archives of the plain binary, a bill of materials, SHA256SUMS
#
# The same commit gives the same bytes: times are those of the commit
# (SOURCE_DATE_EPOCH replaces it), and no path of this machine gets into a file.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
export LC_ALL=C TZ=UTC

what=${1:?usage: scripts/package.sh deb|rpm|release}
dist=${DIST:-dist}
read -ra arches <<<"${ARCHES:-amd64 arm64}"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

# version of the binary: v1.2.3 gives 1.2.3, four commits later 1.2.3+4.gabc1234;
# without any tag 0.0~20261121.053300.gabc1234, which is older than each release.
version() {
  local tag
  if tag=$(git describe --tags --match 'v[0-9]*' --dirty=+dirty 2>/dev/null); then
    sed -E 's/^v//; s/-([0-9]+)-g([0-9a-f]+)/+\1.g\2/' <<<"$tag"
    return
  fi
  printf '0.0~%s.g%s%s\n' "$(date -d "@$SOURCE_DATE_EPOCH" +%Y%m%d.%H%M%S)" "$(git rev-parse --short=7 HEAD)" \
    "$(git diff --quiet HEAD || echo +dirty)"
}
VERSION=${VERSION:-$(version)}

build() { # ARCH OUTPUT-DIRECTORY
  GOOS=linux GOARCH=$1 GOFLAGS=-buildvcs=false make -s build BIN="$2" VERSION="$VERSION" >/dev/null
}

# common NATIVE STAGE: what is equal on every architecture. NATIVE is a binary
# that runs here.
common() {
  local native=$1 share=$2/usr/share
  local doc=$share/doc/listener
  mkdir -p "$doc/docs" "$2/usr/lib/"{systemd/system,sysusers.d,tmpfiles.d} "$2/deb" "$2/rpm" \
    "$share/bash-completion/completions" "$share/fish/vendor_completions.d" "$share/man"
  install -m 644 packaging/systemd/listener.service packaging/systemd/listener.socket "$2/usr/lib/systemd/system/"
  install -m 644 packaging/systemd/listener.sysusers "$2/usr/lib/sysusers.d/listener.conf"
  install -m 644 packaging/systemd/listener.tmpfiles "$2/usr/lib/tmpfiles.d/listener.conf"

  "$native" completion bash >"$share/bash-completion/completions/listener"
  "$native" completion fish >"$share/fish/vendor_completions.d/listener.fish"
  mkdir -p "$2/deb/zsh/vendor-completions" "$2/rpm/zsh/site-functions"
  "$native" completion zsh | tee "$2/deb/zsh/vendor-completions/_listener" >"$2/rpm/zsh/site-functions/_listener"

  "$native" schema --commands | "$tool" man "$share/man"
  "$native" schema >"$doc/service.schema.json"
  cp README.md ARCHITECTURE.md SECURITY.md "$doc/"
  cp docs/*.md "$doc/docs/"
  cp -r examples "$doc/examples"
  cp CHANGELOG.md "$doc/changelog"
  install -m 644 packaging/copyright "$doc/copyright"
  "$tool" licenses "$native" >"$doc/third-party.txt"

  mkdir -p "$2/deb/doc/listener" "$2/deb/lintian/overrides" "$2/rpm/licenses/listener"
  cp LICENSE "$2/rpm/licenses/listener/LICENSE"
  install -m 644 packaging/lintian-overrides "$2/deb/lintian/overrides/listener"
  printf 'listener (%s-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' "$VERSION" \
    "$(sed -n 's/^maintainer: //p' packaging/nfpm.yaml)" "$(date -R -d "@$SOURCE_DATE_EPOCH")" >"$2/deb/doc/listener/changelog.Debian"
  find "$share/man" -type f -exec gzip -9n {} +
  gzip -9n "$doc/changelog" "$doc/third-party.txt" "$2/deb/doc/listener/changelog.Debian"
  chmod -R u=rwX,go=rX "$2"
}

# stage ARCH: the tree of that architecture's package, $dist/stage/ARCH.
stage() {
  local dir=$work/stage/$1
  mkdir -p "$dir"
  cp -r "$work/common/." "$dir/"
  install -D -m 755 "$work/bin/$1/listener" "$dir/usr/bin/listener"
  find "$dir" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

# package KIND ARCH
package() {
  local ext=$1 name
  case $1 in
  deb) name=listener_$VERSION-1_$2 ;;
  rpm) name=listener-$VERSION-1.$(sed 's/amd64/x86_64/; s/arm64/aarch64/' <<<"$2") ;;
  esac
  STAGE=$work/stage/$2 ARCH=$2 PKG_VERSION=$VERSION \
    go tool -modfile=tools/nfpm/go.mod nfpm package -f packaging/nfpm.yaml -p "$1" -t "$dist/$name.$ext" >/dev/null
  echo "$dist/$name.$ext"
}

archive() { # ARCH
  local name=listener-$VERSION-linux-$1
  tar -C "$work/bin/$1" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
    --transform "s,^,$name/," -cf - listener -C "$PWD" LICENSE README.md packaging/systemd | gzip -9n >"$dist/$name.tar.gz"
  echo "$dist/$name.tar.gz"
}

mkdir -p "$dist"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tool=$work/package
go build -C tools/package -trimpath -o "$tool" .

host=$(go env GOHOSTARCH)
for arch in "${arches[@]}"; do
  build "$arch" "$work/bin/$arch"
done
[[ -x $work/bin/$host/listener ]] || build "$host" "$work/bin/$host"
common "$work/bin/$host/listener" "$work/common"

made=()
for arch in "${arches[@]}"; do
  stage "$arch"
  for kind in deb rpm; do
    [[ $what != "$kind" && $what != release ]] || made+=("$(package "$kind" "$arch")")
  done
  [[ $what != release ]] || made+=("$(archive "$arch")")
done
if [[ $what == release ]]; then
  binaries=("${arches[@]/#/$work/bin/}")
  binaries=("${binaries[@]/%//listener}")
  "$tool" sbom listener "$VERSION" "${binaries[@]}" >"$dist/listener-$VERSION.cdx.json"
  made+=("$dist/listener-$VERSION.cdx.json")
  (cd "$dist" && sha256sum "${made[@]##*/}") >"$work/sums"
  mv "$work/sums" "$dist/SHA256SUMS"
  made+=("$dist/SHA256SUMS")
fi
printf '%s\n' "${made[@]}"
