/// Matrix products by oneDNN, with one primitive kept per shape.
#pragma once

#include <memory>

#include "framework/backend/cpu_backend.h"
#include "framework/tensor/tensor.h"

namespace lexring::cpu {

enum class Layout { rows, columns };  ///< as stored, or its transpose

class MatrixProducts {
 public:
  explicit MatrixProducts(Runtime& runtime);
  ~MatrixProducts();

  /// Whether it has products of bf16 here: by level of instructions and what oneDNN is held to from outside
  /// (ONEDNN_MAX_CPU_ISA).
  bool has_bf16() const;

  /// c [m, n] = (or +=) a [m, k] b [k, n] + bias [n] (f32, may be undefined). Layout::columns: the operand is stored
  /// transposed. a and b f32 or bf16 alike, c either or f32. Accumulates in f32.
  void product(const Columns& a, Layout a_layout, const Columns& b, Layout b_layout, const Tensor& bias,
               const Columns& c, bool accumulate);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Holds oneDNN to the instructions of a level. Once in a process, before its first product; throws Error where it
/// computes at another already.
void limit_matrix_products(CpuLevel level);

}  // namespace lexring::cpu
