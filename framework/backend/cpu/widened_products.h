/// Products of bf16 matrices where nothing multiplies bf16: f32 products of operands that are widened a panel at a time.
#pragma once

#include "framework/backend/cpu/matmul.h"

namespace lexring::cpu {

/// Numbers are those of MatrixProducts with bf16 operands: widening is exact, sums are f32, the result is rounded once. Working memory is
/// three panels of at most 4 MiB, whatever the sizes. For one thread of calls.
class WidenedProducts {
 public:
  /// `products` must outlive it.
  explicit WidenedProducts(MatrixProducts& products) : products_(&products) {}

  /// As MatrixProducts::product, for a and b in bf16.
  void product(const Tensor& a, Layout a_layout, const Tensor& b, Layout b_layout, const Tensor& bias, const Tensor& c, bool accumulate);

 private:
  MatrixProducts* products_;
};

}  // namespace lexring::cpu
