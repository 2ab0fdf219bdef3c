// SPDX-License-Identifier: Apache-2.0
// module-hostile: a privileged process that means the kernel module ill.
//
//   module-hostile scribble DISK     attaches DISK and stores nonsense into everything it shares with the module, until
//                                    SIGTERM; then it detaches
//   module-hostile ioctls SEED N     N calls of the device with random numbers, sizes, values and mappings, in two
//                                    processes at once
//
// What is to be seen: the kernel stays well, and whoever uses DISK meanwhile gets what he wrote. Exit status: 0 done,
// 1 could not begin or end, 2 bad arguments.
#include <fcntl.h>
#include <linux/ioctl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "daemon/base/unique_fd.h"
#include "daemon/tracker/module_disks.h"

namespace {

using namespace understudy;

constexpr std::size_t kPage = 4096;
std::atomic<bool> stop_requested = false;

void require(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.error().message());
}

template <typename T>
T value_of(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.error().message());
  return std::move(result).value();
}

// Positions near what is true, far from it, and in between; everything else any value.
void scribble(const std::string& path) {
  const DiskInfo info = value_of(inspect_disk(path));
  ModuleDevice module = value_of(ModuleDevice::open());
  require(module.create_server("hostile", 4 << 20));
  const understudy_module_disk disk = module_disk(info, 0, 64 * 1024);
  require(module.set_disk(disk));
  std::uint8_t* const states = value_of(module.dirty_states(disk));
  require(attach_disk(path, info.device, "hostile", 0));
  MappedMemory consumer = value_of(MappedMemory::map(module.fd(), kPage, PROT_READ | PROT_WRITE));
  MappedMemory producer = value_of(MappedMemory::map(module.fd(), kPage, PROT_READ, kPage));
  auto* const tail = reinterpret_cast<volatile std::uint64_t*>(consumer.data());
  auto* const head = reinterpret_cast<const volatile std::uint64_t*>(producer.data());
  auto* const control = reinterpret_cast<volatile std::uint32_t*>(&module.control());
  std::printf("module-hostile: scribbling\n");
  std::fflush(stdout);
  std::mt19937_64 random(1);
  while (!stop_requested.load()) {
    const std::uint64_t choices[] = {*head, *head - random() % (4 << 20), *head + random() % 4096, random(), 0, ~0ull};
    *tail = choices[random() % std::size(choices)];
    *tail = *head;  // the ring is to be used, not full: what is under way must be kept all the same
    control[random() % (sizeof(understudy_module_control) / sizeof(*control))] = static_cast<std::uint32_t>(random());
    states[random() % (info.size_bytes / (64 * 1024))] = static_cast<std::uint8_t>(random());
  }
  require(end_module_capture(module));
}

std::vector<unsigned long> commands() {
  return {UNDERSTUDY_IOC_VERSION,   UNDERSTUDY_IOC_CREATE,   UNDERSTUDY_IOC_OPEN,
          UNDERSTUDY_IOC_SET_DISK,  UNDERSTUDY_IOC_GET_DISK, UNDERSTUDY_IOC_RELEASE_DISK,
          UNDERSTUDY_IOC_IN_FLIGHT, UNDERSTUDY_IOC_DESTROY,  UNDERSTUDY_IOC_FIND_DISK};
}

// A server's name, ring sizes and slots that are sometimes right, in bytes that are otherwise anything.
void fill(std::mt19937_64& random, std::vector<std::uint8_t>& bytes) {
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random() % 4 == 0 ? random() : 0);
  if (random() % 2 == 0) {
    const std::string name = "fuzz" + std::to_string(random() % 3);
    std::memcpy(bytes.data(), name.c_str(), name.size() + 1);
    const std::uint64_t ring_bytes = 1ull << (random() % 24);
    std::memcpy(bytes.data() + offsetof(understudy_module_server, ring_bytes), &ring_bytes, sizeof(ring_bytes));
  } else if (random() % 2 == 0) {
    understudy_module_disk disk{};
    disk.slot = static_cast<__u32>(random() % 80);
    disk.dev = static_cast<__u32>(random() % 8);
    // Either beyond any machine's memory, or a dirty map of at most 2 MiB.
    disk.sectors = random() % 8 == 0 ? random() | 1ull << 62 : random() >> (40 + random() % 24);
    disk.granule_shift = static_cast<__u32>(random() % 20);
    std::memcpy(bytes.data(), &disk, sizeof(disk));
  } else {
    understudy_module_in_flight_list list{};
    list.buffer = random() % 2 == 0 ? reinterpret_cast<std::uintptr_t>(bytes.data()) : random();
    list.capacity = static_cast<__u32>(1ull << (random() % 32));
    std::memcpy(bytes.data(), &list, sizeof(list));
  }
}

void map_something(std::mt19937_64& random, int fd) {
  const std::uint64_t bases[] = {UNDERSTUDY_MMAP_RING, kPage, UNDERSTUDY_MMAP_CONTROL,
                                 UNDERSTUDY_MMAP_DIRTY + random() % 70 * UNDERSTUDY_MMAP_DIRTY_STRIDE,
                                 random() & 0x7fffffffffff & ~(kPage - 1)};
  const std::size_t size = kPage << (random() % 12);
  const int protection = random() % 2 == 0 ? PROT_READ : PROT_READ | PROT_WRITE;
  void* const memory = ::mmap(nullptr, size, protection, random() % 8 == 0 ? MAP_PRIVATE : MAP_SHARED, fd,
                              static_cast<off_t>(bases[random() % std::size(bases)]));
  if (memory == MAP_FAILED) return;
  // The first page is there whenever the mapping is.
  auto* const bytes = static_cast<volatile std::uint8_t*>(memory);
  const std::uint8_t seen = bytes[random() % kPage];
  if ((protection & PROT_WRITE) != 0) bytes[random() % kPage] = static_cast<std::uint8_t>(seen + random());
  ::mprotect(memory, size, PROT_READ | PROT_WRITE);
  ::munmap(memory, size);
}

void calls(std::uint64_t seed, std::uint64_t count) {
  std::mt19937_64 random(seed);
  const std::vector<unsigned long> known = commands();
  std::vector<std::uint8_t> bytes(64 * 1024);
  UniqueFd device;
  std::uint64_t accepted = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (!device.valid() || random() % 16 == 0) device.reset(::open(UNDERSTUDY_MODULE_DEVICE, O_RDWR | O_CLOEXEC));
    if (!device.valid()) throw std::runtime_error("the device cannot be opened");
    fill(random, bytes);
    unsigned long command = known[random() % known.size()];
    if (random() % 8 == 0) command = _IOC(random() % 4, 'U', random() % 256, random() % 16384);
    void* argument = bytes.data();
    if (random() % 16 == 0) argument = reinterpret_cast<void*>(random());
    accepted += ::ioctl(device.get(), command, argument) == 0 ? 1 : 0;
    if (random() % 4 == 0) map_something(random, device.get());
    pollfd wanted{device.get(), POLLIN, 0};
    ::poll(&wanted, 1, 0);
  }
  // What it made and left is for the next one to end; nobody else may be troubled by it.
  for (int number = 0; number < 3; ++number) {
    auto module = ModuleDevice::open();
    if (module.ok() && module->open_server("fuzz" + std::to_string(number)).ok()) require(module->destroy());
  }
  std::printf("module-hostile: %llu calls, %llu accepted\n", static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(accepted));
}

int both(std::uint64_t seed, std::uint64_t count) {
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork failed");
  calls(child == 0 ? seed + 1 : seed, count);
  if (child == 0) return 0;
  int status = 0;
  ::waitpid(child, &status, 0);
  // What either left bound when the other wanted to end it.
  calls(seed, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  struct sigaction action = {};
  action.sa_handler = [](int) { stop_requested.store(true); };
  sigaction(SIGTERM, &action, nullptr);
  try {
    if (what == "scribble" && argc == 3) {
      scribble(argv[2]);
      return 0;
    }
    if (what == "ioctls" && argc == 4) return both(std::stoull(argv[2]), std::stoull(argv[3]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "module-hostile: %s\n", error.what());
    return 1;
  }
  std::fprintf(stderr, "usage: module-hostile scribble DISK | ioctls SEED N\n");
  return 2;
}
