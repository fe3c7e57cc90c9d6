/// From a dtype at run time to a type at compile time, for the reference backend.
#pragma once

#include <string_view>

#include "framework/base/error.h"
#include "framework/tensor/dtype.h"

namespace lexring::reference {

/// Calls f(T{}) with T = float or double: the dtypes that reference kernels compute in.
template <class F>
void dispatch(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::f32:
      return f(float{});
    case Dtype::f64:
      return f(double{});
    case Dtype::bf16:
    case Dtype::i32:
      break;
  }
  fail(
      "the reference backend computes in f32 and f64, not in {}; choose train.precision = fp32 or fp64, or --device "
      "cpu",
      name_of(dtype));
}

/// Calls f(T{}) with T = float, bfloat16 or double, for kernels that only move values.
template <class F>
void dispatch_floating(Dtype dtype, F&& f) {
  if (dtype == Dtype::bf16) return f(bfloat16{});
  dispatch(dtype, f);
}

/// `value` rounded to T.
template <class T>
T rounded(double value) {
  if constexpr (dtype_of<T> == Dtype::f64) {
    return value;
  } else {
    return T(static_cast<float>(value));
  }
}

}  // namespace lexring::reference
