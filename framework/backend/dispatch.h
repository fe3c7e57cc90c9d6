/// From a tensor's dtype to a template's type, for backends that compute in f32 and bf16.
#pragma once

#include "framework/tensor/tensor.h"

namespace lexring {

template <class T>
struct Type {
  using type = T;
};

/// body(Type<T>{}) with the element type of f32 or bf16 tensors.
template <class Body>
void with_type(Dtype dtype, const Body& body) {
  switch (dtype) {
    case Dtype::f32:
      return body(Type<float>{});
    case Dtype::bf16:
      return body(Type<bfloat16>{});
    default:
      fail("this backend computes in f32 and bf16, not in {}; use --device reference for f64", name_of(dtype));
  }
}

template <class Body>
void with_types(Dtype first, Dtype second, const Body& body) {
  with_type(first, [&](auto a) { with_type(second, [&](auto b) { body(a, b); }); });
}

}  // namespace lexring
