#include "framework/nn/parameter_store.h"

#include <map>

namespace lexring {

namespace {

constexpr std::int64_t alignment_bytes = 64;

Shape shape_of(const std::vector<ParameterPart>& parts) {
  Shape shape = parts.front().shape;
  shape[0] = 0;
  for (const ParameterPart& part : parts) {
    require(part.shape.size() == shape.size() && std::equal(shape.begin() + 1, shape.end(), part.shape.begin() + 1),
            "{} {} cannot share an array with {} {}", part.name, to_string(part.shape), parts.front().name, to_string(parts.front().shape));
    shape[0] += part.shape[0];
  }
  return shape;
}

}  // namespace

std::size_t ParameterStore::declare(std::vector<ParameterPart> rows, Use use) {
  require(!rows.empty() && !gradients_.defined(), "parameters are declared before they are allocated, at least one at a time");
  arrays_.push_back({std::move(rows), use, {}, {}, {}});
  return arrays_.size() - 1;
}

void ParameterStore::allocate(Backend& backend, Dtype master, Dtype working, const std::vector<NamedShape>& order) {
  const auto padded = [&](std::int64_t elements) {
    const std::int64_t unit = alignment_bytes / static_cast<std::int64_t>(size_of(working));
    return (elements + unit - 1) / unit * unit;
  };
  const auto has_copy = [&](const Array& array) { return array.use == Use::product && shape_of(array.parts).size() >= 2; };
  std::int64_t total = 0;
  std::int64_t copied = 0;
  for (const Array& array : arrays_) {
    const std::int64_t size = padded(element_count(shape_of(array.parts)));
    total += size;
    if (has_copy(array)) copied += size;
  }
  Runtime& runtime = backend.runtime();
  const Tensor values(runtime, {total}, master);
  gradients_ = Tensor(runtime, {total}, master);
  backend.fill(values, 0.0);
  backend.fill(gradients_, 0.0);
  const Tensor copies = working == master ? Tensor() : Tensor(runtime, {copied}, working);

  std::map<std::string, Parameter> made;
  std::int64_t at = 0;
  std::int64_t copy_at = 0;
  for (Array& array : arrays_) {
    const Shape shape = shape_of(array.parts);
    const std::int64_t size = element_count(shape);
    array.value = values.slice(at, size).reshape(shape);
    array.gradient = gradients_.slice(at, size).reshape(shape);
    at += padded(size);
    if (has_copy(array)) {
      array.compute = copies.defined() ? copies.slice(copy_at, size).reshape(shape) : array.value;
      copy_at += padded(size);
    }
    std::int64_t row = 0;
    for (const ParameterPart& part : array.parts) {
      const std::int64_t rows = part.shape[0];
      made[part.name] = Parameter{.name = part.name,
                                  .full_shape = part.full_shape,
                                  .offset = part.offset,
                                  .value = array.value.slice(row, rows),
                                  .gradient = array.gradient.slice(row, rows),
                                  .compute = array.compute.defined() ? array.compute.slice(row, rows) : Tensor(),
                                  .copies = part.copies,
                                  .copy = part.copy};
      row += rows;
    }
  }
  for (const NamedShape& entry : order) {
    const auto found = made.find(entry.name);
    require(found != made.end() && found->second.full_shape == entry.shape, "parameter {} {} was not declared so", entry.name,
            to_string(entry.shape));
    parameters_.push_back(std::move(found->second));
    made.erase(found);
  }
  require(made.empty(), "parameter {} has no place in the order", made.empty() ? "" : made.begin()->first);
}

Weight ParameterStore::weight(std::size_t handle) const { return {arrays_.at(handle).compute, arrays_.at(handle).gradient}; }

Vector ParameterStore::vector(std::size_t handle) const { return {arrays_.at(handle).value, arrays_.at(handle).gradient}; }

void ParameterStore::refresh_compute(Backend& backend) const {
  for (const Array& array : arrays_) {
    if (array.compute.defined() && array.compute.raw() != array.value.raw()) backend.cast(array.value, array.compute);
  }
}

}  // namespace lexring
