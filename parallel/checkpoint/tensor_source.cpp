#include "parallel/checkpoint/tensor_source.h"

#include <cstring>

#include "framework/base/error.h"

namespace lexring {
namespace {

template <class To, class From>
void convert(const std::byte* from, std::byte* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + static_cast<std::size_t>(i) * sizeof(From), sizeof(From));
    To result;
    if constexpr (std::is_same_v<To, bfloat16>) {
      result = bfloat16(static_cast<float>(value));
    } else {
      result = static_cast<To>(value);
    }
    std::memcpy(to + static_cast<std::size_t>(i) * sizeof(To), &result, sizeof(To));
  }
}

template <class To>
void convert(const std::byte* from, Dtype source, std::byte* to, std::int64_t count) {
  if (source == Dtype::f32) return convert<To, float>(from, to, count);
  if (source == Dtype::f64) return convert<To, double>(from, to, count);
  return convert<To, bfloat16>(from, to, count);
}

void convert(const std::byte* from, Dtype source, std::byte* to, Dtype target, std::int64_t count) {
  if (target == Dtype::f32) {
    convert<float>(from, source, to, count);
  } else if (target == Dtype::f64) {
    convert<double>(from, source, to, count);
  } else {
    convert<bfloat16>(from, source, to, count);
  }
}

bool is_inside(const Shape& offset, const Shape& shape, const Shape& whole) {
  for (std::size_t i = 0; i < whole.size(); ++i) {
    if (offset[i] < 0 || shape[i] > whole[i] || offset[i] > whole[i] - shape[i]) return false;
  }
  return true;
}

}  // namespace

void TensorSource::read(const LogicalTensor& part) const {
  const std::optional<Info> tensor = info(part.name);
  const Shape& shape = part.data.shape();
  require(tensor.has_value(), "{}: there is no tensor {}; the checkpoint is of another model", origin(), part.name);
  require(tensor->shape == part.full_shape,
          "{}: tensor {} has shape {}, but {} is needed; the checkpoint is of another model", origin(), part.name,
          to_string(tensor->shape), to_string(part.full_shape));
  const Dtype target = part.data.dtype(), source = tensor->dtype;
  require(target == source || (target != Dtype::i32 && source != Dtype::i32), "{}: tensor {} is {}, but {} is needed",
          origin(), part.name, name_of(source), name_of(target));
  require(part.offset.size() == tensor->shape.size() && shape.size() == tensor->shape.size(),
          "{}: tensor {}: a part of shape {} at {} does not fit shape {}", origin(), part.name, to_string(shape),
          to_string(part.offset), to_string(tensor->shape));
  if (part.data.elements() == 0) return;
  require(is_inside(part.offset, shape, tensor->shape),
          "{}: tensor {}: a part of shape {} at {} is not inside shape {}", origin(), part.name, to_string(shape),
          to_string(part.offset), to_string(tensor->shape));

  const std::int64_t count = part.data.elements();
  std::vector<std::byte> host(static_cast<std::size_t>(count) * size_of(source));
  do_read(part.name, part.offset, shape, host);
  if (source != target) {
    std::vector<std::byte> converted(part.data.bytes());
    convert(host.data(), source, converted.data(), target, count);
    host = std::move(converted);
  }
  part.data.runtime().copy_from_host(part.data.raw(), host.data(), host.size());
  part.data.runtime().synchronise();
}

}  // namespace lexring
