#!/usr/bin/env bash
# A real Kubernetes node on this machine, from Debian's packages, to try the mesh on.
#
#   sudo bench/real_kubernetes.sh build          # sources, binaries, images; a quarter of an hour, 8 GB
#   sudo bench/real_kubernetes.sh up             # ends with how to reach it
#   sudo bench/real_kubernetes.sh run COMMAND    # in the node's network, with its kubeconfig
#   sudo bench/real_kubernetes.sh down
#
# Debian 12, root. The node lives in network and mount namespaces of its own. Its Kubernetes is 1.20.2, the last whose
# whole source is a Debian package; EndpointSlices are v1beta1 there, so the images and `run mutua` have that one word changed.
set -euo pipefail
ROOT=${ROOT:-/var/tmp/real-kubernetes}
HERE=$(cd "$(dirname "$0")/.." && pwd)
PYTHON=${PYTHON:-$HERE/.venv/bin/python}
PKI=$ROOT/pki LOGS=$ROOT/logs SOCKET=$ROOT/containerd.sock
IMAGES="library/pause:1 library/nginx:1.26 curlimages/curl:8.14.1 mutua/pilot mutua/proxyv2"
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
mkdir -p "$ROOT"/{bin,debs,pki,logs,cni}

build() { packages; binaries; certificates; images; }

packages() {
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends buildah ca-certificates conntrack containerd containernetworking-plugins \
    crun debootstrap dnsmasq-base dpkg-dev etcd-server golang-1.19-go gcc iproute2 iptables libc6-dev openssl runc
}

binaries() {  # in GOPATH mode, as that version was built; generated files that the package lacks are made first
  local tree=$ROOT/go/src/k8s.io/kubernetes
  if [ ! -d "$tree" ]; then
    mkdir -p "$(dirname "$tree")"
    sed 's/^Types: deb$/Types: deb-src/' /etc/apt/sources.list.d/debian.sources > /etc/apt/sources.list.d/real-kubernetes.sources
    apt-get update -qq
    (cd "$ROOT/debs" && apt-get source -qq --download-only kubernetes && apt-get download -qq golang-github-modern-go-reflect2-dev)
    rm /etc/apt/sources.list.d/real-kubernetes.sources
    tar xf "$ROOT"/debs/kubernetes_*.orig.tar.* -C "$ROOT/debs" && mv "$ROOT"/debs/kubernetes-1.20* "$tree"
    # reflect2 of that time reads Go's maps as they were then, and crashes on those of 1.18 and newer.
    dpkg -x "$ROOT"/debs/golang-github-modern-go-reflect2-dev*.deb "$ROOT/debs/reflect2"
    local reflect2=$tree/vendor/github.com/modern-go/reflect2
    rm "$reflect2"/*.go && cp "$ROOT"/debs/reflect2/usr/share/gocode/src/github.com/modern-go/reflect2/*.go "$reflect2"
    rm -f "$reflect2"/*_test.go
  fi
  export GOPATH=$ROOT/go GOCACHE=$ROOT/go-cache GO111MODULE=off CGO_ENABLED=0 PATH=/usr/lib/go-1.19/bin:$PATH
  cd "$tree"
  if [ ! -f pkg/generated/openapi/zz_generated.openapi.go ]; then
    go build -o "$ROOT/bin/openapi-gen" k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
    local described
    described=$(grep -rl --include='*.go' '^// +k8s:openapi-gen=' pkg staging/src/k8s.io | grep -Ev '/(testdata|test|_examples|testing)/|sample-|code-generator' \
      | xargs -n1 dirname | sort -u | sed 's#^staging/src/#k8s.io/kubernetes/vendor/#; s#^pkg#k8s.io/kubernetes/pkg#' | paste -sd,)
    "$ROOT/bin/openapi-gen" -O zz_generated.openapi -p k8s.io/kubernetes/pkg/generated/openapi -i "$described" \
      --go-header-file hack/boilerplate/boilerplate.generatego.txt -r "$ROOT/openapi-report" -o "$ROOT/go/src"
  fi
  local flags="-s -w"
  for package in component-base/version client-go/pkg/version; do
    flags+=" -X k8s.io/kubernetes/vendor/k8s.io/$package.gitVersion=v1.20.2"
  done
  for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet; do
    echo "building $name"
    go build -ldflags "$flags" -o "$ROOT/bin/$name" "k8s.io/kubernetes/cmd/$name"
  done
  cd "$HERE"
}

certificates() {
  cd "$PKI"
  openssl genrsa -out sa.key 2048 2> /dev/null && openssl rsa -in sa.key -pubout -out sa.pub 2> /dev/null
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=real-kubernetes -days 30 2> /dev/null
  certificate apiserver /CN=kube-apiserver "subjectAltName=DNS:kubernetes.default.svc,IP:10.96.0.1,IP:127.0.0.1,IP:10.99.0.1"
  certificate front /CN=front-proxy extendedKeyUsage=clientAuth
  certificate kubelet-client /O=system:masters/CN=kubelet-client extendedKeyUsage=clientAuth
  for name in admin controllers scheduler proxy; do user "$name" "/O=system:masters/CN=$name"; done
  user node1 /O=system:nodes/CN=system:node:node1
  cd "$HERE"
}

certificate() {
  openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2> /dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.crt" -days 30 -extfile <(echo "$3") 2> /dev/null
}

user() {
  certificate "$1" "$2" extendedKeyUsage=clientAuth
  cat > "$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: real, cluster: {server: "https://127.0.0.1:6443", certificate-authority: $PKI/ca.crt}}]
users: [{name: $1, user: {client-certificate: $PKI/$1.crt, client-key: $PKI/$1.key}}]
contexts: [{name: real, context: {cluster: real, user: $1}}]
current-context: real
YAML
}

images() {
  local base container tag source=$ROOT/source
  tag=$(sed -n 's/^version = "\(.*\)"/\1/p' "$HERE/pyproject.toml")
  [ -d "$ROOT/debian" ] || debootstrap --variant=minbase trixie "$ROOT/debian" > "$LOGS/debootstrap"
  # This machine's authorities and pip's settings: whoever reads packages through a proxy of their own builds all the same.
  cp /etc/ssl/certs/ca-certificates.crt "$ROOT/debian/authorities.crt"
  printf '[global]\ncert = /authorities.crt\n' > "$ROOT/debian/etc/pip.conf"
  base=$(buildah from scratch)
  cp -a "$ROOT/debian/." "$(buildah mount "$base")/"
  buildah umount "$base" > /dev/null && buildah commit -q --rm "$base" localhost/debian:trixie-slim > /dev/null
  rm -rf "$source" && mkdir "$source" && cd "$HERE"
  cp -a Containerfile .dockerignore Makefile README.md LICENSE NOTICE pyproject.toml requirements*.lock src "$source"
  sed -i 's/"discovery.k8s.io", ("v1",)/"discovery.k8s.io", ("v1beta1",)/' "$source/src/mutua/api/kinds.py"
  make -C "$source" images BUILDER=buildah HUB=docker.io/mutua BUILD_ARGS="--build-arg DEBIAN=localhost/debian:trixie-slim"
  printf '%s\n' '#include <signal.h>' '#include <stdlib.h>' '#include <sys/wait.h>' '#include <unistd.h>' \
    'static void end(int s) { exit(0); } static void reap(int s) { while (waitpid(-1, 0, WNOHANG) > 0); }' \
    'int main() { signal(SIGTERM, end); signal(SIGINT, end); signal(SIGCHLD, reap); for (;;) pause(); }' > "$ROOT/pause.c"
  gcc -static -o "$ROOT/pause" "$ROOT/pause.c"
  container=$(buildah from scratch)
  buildah copy -q "$container" "$ROOT/pause" /pause > /dev/null
  buildah config --entrypoint '["/pause"]' "$container"
  buildah commit -q --rm "$container" docker.io/library/pause:1 > /dev/null
  container=$(buildah from localhost/debian:trixie-slim)
  buildah run "$container" -- sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light curl > /dev/null'
  buildah config --cmd '["nginx", "-g", "daemon off;"]' "$container"
  buildah commit -q "$container" docker.io/library/nginx:1.26 > /dev/null
  buildah commit -q --rm "$container" docker.io/curlimages/curl:8.14.1 > /dev/null
  for image in $IMAGES; do
    case $image in *:*) ;; *) image=$image:$tag ;; esac
    rm -f "$ROOT/image-$(basename "${image%%:*}").tar"
    buildah push -q "docker.io/$image" "docker-archive:$ROOT/image-$(basename "${image%%:*}").tar:docker.io/$image"
  done
}

up() {
  setsid unshare --net --mount --uts --propagation private "$0" node > "$LOGS/node" 2>&1 < /dev/null &
  for _ in $(seq 120); do
    run kubectl get nodes 2> /dev/null | grep -q ' Ready' && break
    sleep 1
  done
  run kubectl get nodes
  echo "try it: $0 run kubectl get nodes; $0 run mutua install -y"
}

node() {  # what `up` starts in namespaces of its own; ends with whoever kills its processes
  echo $$ > "$ROOT/node.pid"
  mount --make-rshared /
  ip link set lo up && ip addr add 169.254.20.10/32 dev lo
  ip link add eth0 type veth peer name eth0p && ip link set eth0p up && ip link set eth0 up
  ip addr add 10.99.0.1/24 dev eth0 && ip route add default dev eth0
  sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
  hostname node1
  cd "$ROOT"
  settings
  etcd --data-dir etcd --unsafe-no-fsync > "$LOGS/etcd" 2>&1 &
  bin/kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address=10.99.0.1 --secure-port=6443 \
    --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" --client-ca-file="$PKI/ca.crt" \
    --kubelet-client-certificate="$PKI/kubelet-client.crt" --kubelet-client-key="$PKI/kubelet-client.key" \
    --service-account-key-file="$PKI/sa.pub" --service-account-signing-key-file="$PKI/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range=10.96.0.0/16 \
    --authorization-mode=Node,RBAC --allow-privileged=true --kubelet-preferred-address-types=InternalIP \
    --proxy-client-cert-file="$PKI/front.crt" --proxy-client-key-file="$PKI/front.key" \
    --requestheader-client-ca-file="$PKI/ca.crt" > "$LOGS/apiserver" 2>&1 &
  until kubectl --kubeconfig "$PKI/admin.kubeconfig" get --raw /healthz > /dev/null 2>&1; do sleep 0.5; done
  bin/kube-controller-manager --kubeconfig="$PKI/controllers.kubeconfig" --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file="$PKI/sa.key" --root-ca-file="$PKI/ca.crt" > "$LOGS/controllers" 2>&1 &
  bin/kube-scheduler --kubeconfig="$PKI/scheduler.kubeconfig" --leader-elect=false > "$LOGS/scheduler" 2>&1 &
  containerd -c containerd.toml > "$LOGS/containerd" 2>&1 &
  until ctr -a "$SOCKET" version > /dev/null 2>&1; do sleep 0.5; done
  for image in image-*.tar; do ctr -a "$SOCKET" -n k8s.io images import "$image" > "$LOGS/import" 2>&1; done
  bin/kubelet --config=kubelet.yaml --kubeconfig="$PKI/node1.kubeconfig" --hostname-override=node1 --node-ip=10.99.0.1 \
    --container-runtime=remote --container-runtime-endpoint="unix://$SOCKET" --root-dir="$ROOT/kubelet" > "$LOGS/kubelet" 2>&1 &
  bin/kube-proxy --kubeconfig="$PKI/proxy.kubeconfig" --proxy-mode=iptables --cluster-cidr=10.244.0.0/16 \
    --hostname-override=node1 --conntrack-max-per-core=0 > "$LOGS/proxy" 2>&1 &
  : > hosts
  dnsmasq -k --conf-file=/dev/null --no-resolv --no-hosts --listen-address=169.254.20.10 --bind-interfaces --user=root \
    --addn-hosts="$ROOT/hosts" --local=/cluster.local/ --pid-file="$ROOT/dnsmasq.pid" > "$LOGS/dns" 2>&1 &
  local line='{range .items[?(@.spec.clusterIP!="None")]}{.spec.clusterIP} {.metadata.name}.{.metadata.namespace}.svc.cluster.local{"\n"}{end}'
  while sleep 1; do
    kubectl --kubeconfig "$PKI/admin.kubeconfig" get services -A -o jsonpath="$line" > hosts.new 2> /dev/null || continue
    cmp -s hosts.new hosts || { cp hosts.new hosts && kill -HUP "$(cat dnsmasq.pid)"; }
  done
}

settings() {
  cat > containerd.toml <<TOML
version = 2
root = "$ROOT/containerd"
state = "$ROOT/containerd-state"
[grpc]
  address = "$SOCKET"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$ROOT/cni"
TOML
  cat > cni/bridge.conflist <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
 "hairpinMode": true, "ipam": {"type": "host-local", "dataDir": "$ROOT/cni-data", "ranges": [[{"subnet": "10.244.0.0/24"}]],
 "routes": [{"dst": "0.0.0.0/0"}]}}, {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  cat > kubelet.yaml <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
clusterDNS: [169.254.20.10]
clusterDomain: cluster.local
failSwapOn: false
resolvConf: /dev/null
volumePluginDir: $ROOT/volume-plugins
imageGCHighThresholdPercent: 100
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: "100Mi"}
YAML
}

run() {
  local pid words=("$@")
  pid=$(cat "$ROOT/node.pid")
  if [ "${1:-}" = mutua ]; then
    words=(env "PYTHONPATH=$ROOT/source/src" "$PYTHON" -c 'import sys; sys.argv[0] = "mutua"; from mutua.programs.cli.main import main; main()' "${@:2}")
  fi
  nsenter --target "$pid" --net env KUBECONFIG="$PKI/admin.kubeconfig" "${words[@]}"
}

down() {
  local network
  network=$(readlink "/proc/$(cat "$ROOT/node.pid")/ns/net") || return 0
  for shim in $(pgrep -f "containerd-shim-runc.*$SOCKET"); do pkill -9 -P "$shim" || true; done
  for process in /proc/[0-9]*; do
    [ "$(readlink "$process/ns/net" 2> /dev/null)" != "$network" ] || kill -9 "${process#/proc/}" 2> /dev/null || true
  done
  sleep 1
  for name in /run/netns/cni-*; do mountpoint -q "$name" || rm -f "$name"; done
  find /sys/fs/cgroup/*/kubepods -depth -type d -exec rmdir {} + 2> /dev/null || true
  rm -rf "$ROOT"/{etcd,containerd-state,cni-data,kubelet,node.pid}
}

"$@"
