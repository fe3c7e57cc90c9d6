/// Matrix products of the CUDA backend: cuBLASLt on a GPU (nvidia/matmul.cpp), plain loops in tests
/// (tests/emulated_cuda/matmul.cpp).
#pragma once

#include <memory>

#include "framework/backend/cuda/kernels.h"
#include "framework/backend/cuda_backend.h"

namespace lexring::cuda {

/// How a matrix lies in memory.
enum class Layout { rows, columns };

/// Products of matrices of one GPU. Used by one thread at a time.
class MatrixProducts {
 public:
  MatrixProducts(const Gpu& gpu, F32Products f32);
  MatrixProducts(const MatrixProducts&) = delete;
  MatrixProducts& operator=(const MatrixProducts&) = delete;
  ~MatrixProducts();

  /// a is [N, I], or [I, N] where its layout is `columns`; b is [I, O], or [O, I] where its layout is `columns`. f32 or
  /// bf16, both the same; y f32 or that. bias [O] f32, or undefined; it is rounded to y's dtype first. Any of N, I, O
  /// may be 0: an empty sum is 0.
  void product(const Columns& a, Layout a_layout, const Columns& b, Layout b_layout, const Tensor& bias,
               const Columns& y, bool accumulate);

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace lexring::cuda
