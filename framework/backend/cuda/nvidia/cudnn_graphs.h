/// cuDNN's fused attention as graphs, by way of cudnn-frontend (header-only); libcudnn is opened when it is asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "framework/backend/cuda/fused_attention.h"

namespace lexring::cuda {

enum class FusedPass { forward, backward };
/// Whether dq may be summed in any order.
enum class FusedOrder { fixed, any };

/// A GPU that is described rather than there: libcudnn says what it would do on it.
struct DescribedDevice {
  std::string json;  ///< libcudnn's own description (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION)
  int compute_capability = 90;
  int multiprocessors = 0;
};

/// Opens libcudnn.so.9. Throws UsageError where it is not on this machine.
void open_cudnn();
/// 91900 is 9.19.0. After open_cudnn.
std::size_t cudnn_version();

/// Why libcudnn has no graph for this shape on that device; empty where it has one. `largest_workspace`: bytes; a graph
/// that needs more is refused, with the number.
std::string refusal_of(const DescribedDevice& device, FusedPass pass, const FusedShape& shape, FusedOrder order,
                       std::int64_t largest_workspace);

}  // namespace lexring::cuda
