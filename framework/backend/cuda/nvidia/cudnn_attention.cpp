#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <unordered_map>
#include <vector>

#include <cudnn_frontend.h>

#include "framework/backend/cuda/nvidia/cudnn_graphs.h"
#include "framework/base/console.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // cudnn-frontend asks its user for it
}

namespace lexring::cuda {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Tensor_attributes;
using Attributes = std::shared_ptr<Tensor_attributes>;

/// A backward pass in a fixed order may ask for memory that grows with the square of the length.
constexpr std::int64_t largest_workspace = std::int64_t{4} << 30;
/// Beyond it libcudnn has another way on sm_90, from 9.25 on, with memory that grows with the length; cudnn-frontend
/// takes it where this environment variable says so. Set before any thread is started, unless the user has.
[[maybe_unused]] const int limited = setenv("CUDNN_FRONTEND_ATTN_DP_WORKSPACE_LIMIT", "4294967296", 0);

/// Each is for one shape and takes a while to make; documents of ever other lengths would never have enough.
constexpr std::size_t most_graphs = 128;

/// Names of a graph's operands.
enum Operand : std::int64_t { q, k, v, output, lse, doutput, dq, dk, dv };

void require_cudnn(fe::error_t error, const char* what) {
  if (error.is_bad()) fail("cuDNN: {} in {}", error.get_message(), what);
}

Tensor_attributes rows(Operand operand, const FusedShape& s, std::int64_t heads, std::int64_t count,
                       const FusedStrides& strides) {
  return Tensor_attributes()
      .set_uid(operand)
      .set_dim({s.batch, heads, count, s.width})
      .set_stride({strides.batch, strides.head, strides.row, 1});
}
Tensor_attributes statistics(const FusedShape& s) {
  return Tensor_attributes()
      .set_uid(lse)
      .set_data_type(fe::DataType_t::FLOAT)
      .set_dim({s.batch, s.heads, s.queries, 1})
      .set_stride({s.heads * s.queries, s.queries, 1, 1});
}
FusedStrides contiguous(std::int64_t count, std::int64_t heads, std::int64_t width) {
  return {count * heads * width, width, heads * width};
}

template <class Options>
void set_common(Options& options, const FusedShape& s) {
  options.set_name("attention").set_attn_scale(static_cast<float>(s.scale));
  if (s.mask == FusedMask::none) return;
  options.set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT).set_diagonal_band_right_bound(0);
  if (s.window > 0) options.set_diagonal_band_left_bound(static_cast<int>(s.window));
}

void describe_forward(fe::graph::Graph& graph, const FusedShape& s) {
  fe::graph::SDPA_attributes options;
  set_common(options, s);
  options.set_generate_stats(true);
  const auto [o, stats] =
      graph.sdpa(graph.tensor(rows(q, s, s.heads, s.queries, s.q)), graph.tensor(rows(k, s, s.kv_heads, s.keys, s.k)),
                 graph.tensor(rows(v, s, s.kv_heads, s.keys, s.v)), options);
  const Tensor_attributes wanted = rows(output, s, s.heads, s.queries, s.output), found = statistics(s);
  o->set_output(true).set_uid(output).set_dim(wanted.get_dim()).set_stride(wanted.get_stride());
  stats->set_output(true).set_uid(lse).set_data_type(fe::DataType_t::FLOAT);
  stats->set_dim(found.get_dim()).set_stride(found.get_stride());
}

void describe_backward(fe::graph::Graph& graph, const FusedShape& s, FusedOrder order) {
  fe::graph::SDPA_backward_attributes options;
  set_common(options, s);
  options.set_deterministic_algorithm(order == FusedOrder::fixed);
  const auto [a, b, c] = graph.sdpa_backward(
      graph.tensor(rows(q, s, s.heads, s.queries, s.q)), graph.tensor(rows(k, s, s.kv_heads, s.keys, s.k)),
      graph.tensor(rows(v, s, s.kv_heads, s.keys, s.v)), graph.tensor(rows(output, s, s.heads, s.queries, s.output)),
      graph.tensor(rows(doutput, s, s.heads, s.queries, s.doutput)), graph.tensor(statistics(s)), options);
  const auto write = [&](const Attributes& to, Operand operand, std::int64_t heads, std::int64_t count) {
    const Tensor_attributes wanted = rows(operand, s, heads, count, contiguous(count, heads, s.width));
    to->set_output(true).set_uid(operand).set_dim(wanted.get_dim()).set_stride(wanted.get_stride());
  };
  write(a, dq, s.heads, s.queries), write(b, dk, s.kv_heads, s.keys), write(c, dv, s.kv_heads, s.keys);
}

/// Up to the question whether there is a kernel. `handle`: of this device; nullptr: the graph has a description of one.
fe::error_t find(fe::graph::Graph& graph, cudnnHandle_t handle, FusedPass pass, const FusedShape& s, FusedOrder order,
                 std::int64_t memory) {
  graph.set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  if (pass == FusedPass::forward) describe_forward(graph, s);
  else describe_backward(graph, s, order);
  if (auto error = graph.validate(); error.is_bad()) return error;
  auto built = handle == nullptr ? graph.build_operation_graph() : graph.build_operation_graph(handle);
  if (built.is_bad()) return built;
  if (auto error = graph.create_execution_plans({fe::HeurMode_t::A}); error.is_bad()) return error;
  graph.deselect_workspace_greater_than(memory);
  return graph.check_support();
}

std::string describe(FusedPass pass, const FusedShape& s) {
  return fmt::format("{} of {} x {} queries and {} keys, {} and {} heads of width {}{}",
                     pass == FusedPass::forward ? "attention" : "attention's gradient", s.batch, s.queries, s.keys,
                     s.heads, s.kv_heads, s.width,
                     s.mask == FusedMask::none ? ""
                     : s.window > 0            ? fmt::format(", window {}", s.window)
                                               : ", causal");
}

class CudnnKernel final : public FusedKernel {
 public:
  CudnnKernel() {
    open_cudnn();
    require_cudnn(status(fe::detail::create_handle(&handle_)), "cudnnCreate");
  }
  CudnnKernel(const CudnnKernel&) = delete;
  CudnnKernel& operator=(const CudnnKernel&) = delete;
  ~CudnnKernel() override {
    graphs_.clear();
    fe::detail::destroy_handle(handle_);
  }

  bool has_forward(const FusedShape& shape) override { return graph(FusedPass::forward, shape) != nullptr; }
  bool has_backward(const FusedShape& shape) override { return graph(FusedPass::backward, shape) != nullptr; }

  void forward(const Gpu& gpu, const FusedShape& shape, const FusedForward& call) override {
    run(gpu, FusedPass::forward, shape,
        {{q, pointer(call.q)}, {k, pointer(call.k)}, {v, pointer(call.v)}, {output, call.output}, {lse, call.lse}});
  }
  void backward(const Gpu& gpu, const FusedShape& shape, const FusedBackward& call) override {
    run(gpu, FusedPass::backward, shape,
        {{q, pointer(call.q)},
         {k, pointer(call.k)},
         {v, pointer(call.v)},
         {output, pointer(call.output)},
         {doutput, pointer(call.doutput)},
         {lse, pointer(call.lse)},
         {dq, call.dq},
         {dk, call.dk},
         {dv, call.dv}});
  }

 private:
  using Graph = std::unique_ptr<fe::graph::Graph>;

  static fe::error_t status(cudnnStatus_t status) {
    if (status == CUDNN_STATUS_SUCCESS) return {};
    return {fe::error_code_t::CUDNN_BACKEND_API_FAILED, fe::detail::get_error_string(status)};
  }
  template <class T>
  static void* pointer(const T* read) {
    return const_cast<T*>(read);
  }

  /// nullptr where cuDNN has none; what it has not is said once.
  const fe::graph::Graph* graph(FusedPass pass, const FusedShape& shape) {
    const std::pair key(pass, shape);
    if (const auto found = graphs_.find(key); found != graphs_.end()) return found->second.get();
    if (graphs_.size() == most_graphs) {
      if (!std::exchange(full_, true))
        say("cuda.attention: own kernels for all further shapes: there are {} graphs of cuDNN's\n", most_graphs);
      return nullptr;
    }
    const auto place = graphs_.emplace(key, nullptr).first;
    auto graph = std::make_unique<fe::graph::Graph>();
    std::string why;
    try {
      fe::error_t error = find(*graph, handle_, pass, shape, FusedOrder::fixed, largest_workspace);
      if (error.is_good()) error = graph->build_plans();
      if (error.is_good()) place->second = std::move(graph);
      else why = error.get_message();
    } catch (const std::exception& error) {  // of cudnn-frontend, for a library that it does not find
      why = error.what();
    }
    if (!place->second) say("cuda.attention: own kernels for {}: cuDNN: {}\n", describe(pass, shape), why);
    return place->second.get();
  }

  void run(const Gpu& gpu, FusedPass pass, const FusedShape& shape, std::unordered_map<std::int64_t, void*> operands) {
    const fe::graph::Graph& graph = *this->graph(pass, shape);
    const auto workspace = gpu.runtime.allocate(static_cast<std::size_t>(graph.get_workspace_size()));
    require_cudnn(status(fe::detail::set_stream(handle_, gpu.stream.handle)), "cudnnSetStream");
    fe::error_t started = graph.execute(handle_, operands, workspace.get());
    if (started.is_bad()) fail("cuDNN: {} in {}", started.get_message(), describe(pass, shape));
    const cudaError_t ended = gpu.stream.checked ? cudaStreamSynchronize(gpu.stream.handle) : cudaSuccess;
    if (ended != cudaSuccess)
      fail("CUDA: {} ({}) in cuDNN's {}", cudaGetErrorString(ended), cudaGetErrorName(ended), describe(pass, shape));
  }

  cudnnHandle_t handle_ = nullptr;
  std::map<std::pair<FusedPass, FusedShape>, Graph> graphs_;
  bool full_ = false;
};

}  // namespace

void open_cudnn() {
  if (fe::cudnn_dlhandle == nullptr) fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_GLOBAL);
  if (fe::cudnn_dlhandle != nullptr) return;
  const char* const why = dlerror();
  throw UsageError(fmt::format(
      "cuda.attention = cudnn needs cuDNN 9, which cannot be opened ({}); put the folder of libcudnn.so.9 into "
      "LD_LIBRARY_PATH, or choose cuda.attention = own",
      why ? why : "no reason given"));
}

std::size_t cudnn_version() { return fe::detail::get_backend_version(); }

std::string refusal_of(const DescribedDevice& device, FusedPass pass, const FusedShape& shape, FusedOrder order,
                       std::int64_t memory) {
  const auto properties = std::make_shared<fe::DeviceProperties>();
  require_cudnn(properties->deserialize({device.json.begin(), device.json.end()}), "the description of a device");
  fe::graph::Graph graph;
  graph.set_device_properties(properties)
      .set_sm_version(device.compute_capability)
      .set_sm_count(device.multiprocessors);
  fe::error_t error = find(graph, nullptr, pass, shape, order, memory);
  return error.is_good() ? "" : error.get_message().empty() ? "refused" : error.get_message();
}

std::unique_ptr<FusedKernel> make_cudnn_kernel() { return std::make_unique<CudnnKernel>(); }

}  // namespace lexring::cuda
