// What is said of a kernel that fails: which kernel, block and thread, and where in the source.
#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdlib>
#include <memory>

#include "launch_state.h"

namespace gpusim {

std::string name_of(const void* kernel) {
  Dl_info info{};
  if (dladdr(kernel, &info) == 0 || info.dli_saddr != kernel) return "kernel";
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> plain(abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status),
                                                     free);
  std::string name = status == 0 ? plain.get() : info.dli_sname;
  return "kernel " + name.substr(0, name.rfind('('));
}

std::string place(const Site& site) {
  const char* slash = strrchr(site.file_name(), '/');
  return std::string(slash == nullptr ? site.file_name() : slash + 1) + ":" + std::to_string(site.line());
}

std::string place(const Thread& t) {
  const auto text = [](uint3 v) {
    std::string s = "(" + std::to_string(v.x);
    return s + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
  };
  return "block " + text(t.block->index) + " thread " + text(t.index);
}

std::string waiting_threads() {
  std::string text;
  int named = 0, waiting = 0;
  for (const Block& block : device.blocks) {
    if (block.live == 0) continue;
    for (int i = 0; i < device.threads_per_block; ++i) {
      const Thread& t = block.threads[i];
      const bool may_run = ((t.warp->ready | t.warp->spinning) & bit_of(t)) != 0;
      if (may_run || (t.warp->exited >> t.lane & 1u) != 0) continue;
      ++waiting;
      // One of a warp tells enough.
      if (named < 8 && (named == 0 || i % 32 == 0)) {
        ++named;
        text += "\n  " + place(t) + " waits in " + t.waits_in + " at " + place(t.site);
      }
    }
  }
  return text + "\n  " + std::to_string(waiting) + " threads wait in all";
}

void fail_launch(const std::string& message) {
  report = name_of(device.kernel.address) + ", " + place(*current) + ": " + message;
  device.failed = true;
  leave_launch();
}

void fail(const char* message, Site site) { fail_launch(std::string(message) + " at " + place(site)); }

}  // namespace gpusim
