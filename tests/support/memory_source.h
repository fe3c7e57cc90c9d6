/// Tensors in host memory as a source to load from.
#pragma once

#include <cstring>
#include <map>

#include "parallel/checkpoint/tensor_source.h"

namespace lexring::testing {

class MemorySource final : public TensorSource {
 public:
  template <class T>
  void add(const std::string& name, Dtype dtype, const Shape& shape, const std::vector<T>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    tensors_[name] = {{dtype, shape}, {bytes.begin(), bytes.end()}};
  }

  std::string origin() const override { return "memory"; }
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }
  std::optional<Info> info(const std::string& name) const override {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? std::nullopt : std::optional<Info>(found->second.info);
  }

 private:
  struct Held {
    Info info;
    std::vector<std::byte> bytes;
  };

  /// Element by element: nothing to think about.
  void do_read(const std::string& name, const Shape& offset, const Shape& shape,
               std::span<std::byte> out) const override {
    const Held& from = tensors_.at(name);
    const std::size_t element = size_of(from.info.dtype);
    for (std::int64_t i = 0; i < element_count(shape); ++i) {
      std::int64_t at = 0, rest = i, stride = 1;
      for (std::size_t d = shape.size(); d-- > 0;) {
        at += (offset[d] + rest % shape[d]) * stride;
        rest /= shape[d];
        stride *= from.info.shape[d];
      }
      std::memcpy(out.data() + static_cast<std::size_t>(i) * element,
                  from.bytes.data() + static_cast<std::size_t>(at) * element, element);
    }
  }

  std::map<std::string, Held> tensors_;
};

}  // namespace lexring::testing
