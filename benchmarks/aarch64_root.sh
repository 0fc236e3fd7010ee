#!/bin/sh
# A Python for aarch64 with what the runtime needs and its three engines, unpacked into FOLDER, to be run by qemu-aarch64
# (Debian 12: qemu-user).
#
#     benchmarks/aarch64_root.sh FOLDER       then: python benchmarks/emulation.py --aarch64 FOLDER
#                                             or:   EDGECXR_AARCH64=FOLDER python -m pytest -m long tests/emulation
#
# Needs apt-get and dpkg (Debian 12; installs nothing), pip and the network: about 130 MB; FOLDER takes 400.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
constraints=$(cd "$(dirname "$0")/.." && pwd)/constraints.txt
mkdir -p "$1/debs/lists/partial" "$1/debs/archives/partial" "$1/root" "$1/site"
folder=$(cd "$1" && pwd)

# apt with lists of its own, so that the machine's stay as they are.
apt() {
  apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root \
    -o Dir::State::Lists="$folder/debs/lists" -o Dir::Cache="$folder/debs" "$@"
}
apt update
cd "$folder/debs"
apt download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 \
  libssl3 libffi8 libbz2-1.0 liblzma5 libuuid1
for package in *.deb; do dpkg -x "$package" "$folder/root"; done

"${PYTHON:-python3}" -m pip install --quiet --target "$folder/site" --platform manylinux_2_28_aarch64 \
  --platform manylinux_2_27_aarch64 --platform manylinux_2_31_aarch64 --platform manylinux_2_35_aarch64 \
  --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --python-version 3.11 --only-binary :all: \
  --upgrade -c "$constraints" numpy pillow typer rich onnxruntime ai-edge-litert openvino

# ONNX Runtime 1.32 dies where /proc/cpuinfo is that of an x86-64 host; what it computes with, it asks the CPU itself.
mkdir -p "$folder/root/proc" "$folder/root/sys/devices/system/cpu"
cat > "$folder/root/proc/cpuinfo" <<'END'
processor	: 0
BogoMIPS	: 50.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3

END
# OpenVINO 2026.4 dies where it can't ask what CPU it is.
mkdir -p "$folder/root/sys/devices/system/cpu/cpu0/regs/identification"
echo 0x00000000410fd083 > "$folder/root/sys/devices/system/cpu/cpu0/regs/identification/midr_el1"
for list in possible present online; do echo 0 > "$folder/root/sys/devices/system/cpu/$list"; done
