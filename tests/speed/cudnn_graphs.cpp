// Asks libcudnn which of the graphs that attention is made of (framework/backend/cuda/fused_attention.h) it has for a
// described GPU, and what memory they need. There need be no GPU: no kernel is loaded or run.
#include <algorithm>
#include <cstdlib>
#include <regex>
#include <tuple>

#include <fmt/core.h>

#include "framework/backend/cuda/nvidia/cudnn_graphs.h"
#include "framework/base/console.h"

namespace lexring::cuda {
namespace {

/// By NVIDIA's data sheets and the CUDA programming guide, compute capability 9.0.
DescribedDevice device_of(const std::string& name, std::int64_t memory, int bus_width) {
  return {.json = fmt::format(
              R"({{"deviceVer":900,"driverVer":13000,"cudaDeviceId":0,"maxGridSize":[2147483647,65535,65535],)"
              R"("maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"multiProcessorCount":132,"warpSize":32,)"
              R"("maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,)"
              R"("reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,)"
              R"("maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,)"
              R"("supportCoopLaunch":1,"smClockRateKHz":1980000,"memClockRateKHz":2619000,"l2CacheSize":52428800,)"
              R"("smCountOrigin":0,"oversizedSharedMemoryPerBlock":0,"memoryBusWidth":{},)"
              R"("totalGlobalMem":{},"deviceName":"{}"}})",
              bus_width, memory, name),
          .compute_capability = 90,
          .multiprocessors = 132};
}

struct Case {
  const char* name;
  std::int64_t batch, queries, keys;
  FusedMask mask;
  std::int64_t window;
};

/// Queries, keys and values turned for the kernel: head after head, as XPOS and RoPE have them.
FusedShape shape_of(const Case& c, std::int64_t heads, std::int64_t kv_heads, std::int64_t width, FusedPass pass) {
  const auto turned = [&](std::int64_t rows) { return FusedStrides{rows * width, c.batch * rows * width, width}; };
  const std::int64_t row = heads * width, fused = (heads + 2 * kv_heads) * width;
  FusedShape shape{.batch = c.batch,
                   .heads = heads,
                   .kv_heads = kv_heads,
                   .queries = c.queries,
                   .keys = c.keys,
                   .width = width,
                   .mask = c.mask,
                   .window = c.window,
                   .scale = 0.125,
                   .q = turned(c.queries),
                   .k = turned(c.keys),
                   .v = {c.keys * fused, width, fused},
                   .output = {c.queries * row, width, row},
                   .doutput = {}};
  if (pass == FusedPass::backward) shape.doutput = shape.output;
  return shape;
}

/// "yes", with the bytes of memory that it works in; else why not.
std::string answer(const DescribedDevice& device, FusedPass pass, const FusedShape& shape, FusedOrder order) {
  constexpr std::int64_t any = std::int64_t{1} << 50;
  const std::string refusal = refusal_of(device, pass, shape, order, any);
  if (!refusal.empty()) return "no: " + refusal.substr(0, refusal.find('\n'));
  const std::string limited = refusal_of(device, pass, shape, order, 0);
  std::smatch found;
  if (limited.empty()) return "yes";
  if (!std::regex_search(limited, found, std::regex("Requires ([0-9]+)"))) return "yes, ?";
  return fmt::format("yes, {:.1f} MiB", static_cast<double>(std::stoll(found[1])) / (1 << 20));
}

void run() {
  open_cudnn();
  print_result("libcudnn {}\n\n", cudnn_version());
  print_result("| device | heads | width | rectangles | forward | backward in a fixed order | in any order |\n");
  print_result("|---|---|---|---|---|---|---|\n");
  constexpr Case cases[] = {{"causal 8k", 1, 8192, 8192, FusedMask::causal, 0},
                            {"causal 4 x 2,000", 4, 2000, 2000, FusedMask::causal, 0},
                            {"causal, a span of XPOS", 1, 32695, 32695, FusedMask::causal, 0},
                            {"unmasked, 32,841 after a span", 1, 32841, 32695, FusedMask::none, 0},
                            {"unmasked, 146 after a span", 1, 146, 32695, FusedMask::none, 0},
                            {"blockwise: 8 x 1,024 causal", 8, 1024, 1024, FusedMask::causal, 0},
                            {"blockwise: 7 x 1,024 unmasked", 7, 1024, 1024, FusedMask::none, 0},
                            {"window 1,024 of 8k", 1, 8192, 8192, FusedMask::causal, 1024},
                            {"causal 64k", 1, 65536, 65536, FusedMask::causal, 0}};
  const std::tuple<const char*, std::int64_t, int> devices[] = {{"NVIDIA H100 80GB HBM3", 85017755648, 5120},
                                                                {"NVIDIA H200", 150110011392, 6144}};
  for (const auto& [name, memory, bus_width] : devices) {
    const DescribedDevice device = device_of(name, memory, bus_width);
    for (const auto& [heads, kv_heads] : {std::pair(16, 16), std::pair(16, 4)})
      for (const std::int64_t width : {32, 64, 96, 128})
        for (const Case& c : cases) {
          const auto ask = [&, heads = heads, kv_heads = kv_heads](FusedPass pass, FusedOrder order) {
            return answer(device, pass, shape_of(c, heads, kv_heads, width, pass), order);
          };
          print_result("| {} | {}:{} | {} | {} | {} | {} | {} |\n", name, heads, kv_heads, width, c.name,
                       ask(FusedPass::forward, FusedOrder::fixed), ask(FusedPass::backward, FusedOrder::fixed),
                       ask(FusedPass::backward, FusedOrder::any));
        }
  }
}

}  // namespace
}  // namespace lexring::cuda

int main() {
  try {
    lexring::cuda::run();
    return EXIT_SUCCESS;
  } catch (const std::exception& error) {
    lexring::say("cudnn_graphs: {}\n", error.what());
    return EXIT_FAILURE;
  }
}
