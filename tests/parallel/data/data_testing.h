/// What tests of data parallelism share: parameters laid out as a model's are.
#pragma once

#include <string>
#include <vector>

#include "framework/backend/backend.h"
#include "framework/nn/parameter_store.h"

namespace lexring {

/// Parameters of these names and shapes, each an array of its own, in one flat buffer.
struct LaidOut {
  LaidOut(Backend& backend, const std::vector<NamedShape>& shapes) {
    for (const NamedShape& shape : shapes) store.declare({shape});
    store.allocate(backend, Dtype::f32, Dtype::f32, shapes);
  }
  const std::vector<Parameter>& parameters() { return store.parameters(); }
  ParameterStore store;
};

}  // namespace lexring
