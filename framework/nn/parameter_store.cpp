#include "framework/nn/parameter_store.h"

#include <algorithm>
#include <map>

namespace lexring {

namespace {

/// Elements that arrays of a storage begin at multiples of: 64 bytes.
std::int64_t unit_of(Dtype dtype) { return 64 / static_cast<std::int64_t>(size_of(dtype)); }

Shape shape_of(const std::vector<ParameterPart>& parts) {
  Shape shape = parts.front().shape;
  shape[0] = 0;
  for (const ParameterPart& part : parts) {
    require(part.shape.size() == shape.size() && std::equal(shape.begin() + 1, shape.end(), part.shape.begin() + 1),
            "{} {} cannot share an array with {} {}", part.name, to_string(part.shape), parts.front().name,
            to_string(parts.front().shape));
    shape[0] += part.shape[0];
  }
  return shape;
}

std::int64_t padded(std::int64_t elements, std::int64_t unit) { return (elements + unit - 1) / unit * unit; }

}  // namespace

std::size_t ParameterStore::declare(std::vector<ParameterPart> rows, Use use) {
  require(!rows.empty() && !gradients_.defined(),
          "parameters are declared before they are allocated, at least one at a time");
  for (const ParameterPart& row : rows) {
    require_usage(row.trainable == rows.front().trainable,
                  "{} is computed in one product with {}, and only one of them is frozen; freeze both, or none",
                  row.name, rows.front().name);
  }
  arrays_.push_back({std::move(rows), use, {}, {}, {}});
  return arrays_.size() - 1;
}

void ParameterStore::allocate(Backend& backend, Dtype master, Dtype working, const std::vector<NamedShape>& order,
                              Held held, const std::vector<std::vector<std::string>>& sections) {
  const auto has_copy = [&](const Array& array) {
    return working != master && array.use != Use::lookup && shape_of(array.parts).size() >= 2;
  };
  const auto has_value = [&](const Array& array) {
    return held == Held::all || !has_copy(array) || array.use == Use::both || !array.parts.front().trainable;
  };
  std::int64_t valued = 0, copied = 0;
  for (const Array& array : arrays_) {
    const std::int64_t size = element_count(shape_of(array.parts));
    if (has_value(array)) valued += padded(size, unit_of(master));
    if (has_copy(array)) copied += padded(size, unit_of(working));
  }
  const MemoryPurpose purpose("parameters");
  const Tensor values(backend.runtime(), {valued}, master);
  const Tensor copies = copied > 0 ? Tensor(backend.runtime(), {copied}, working) : Tensor();
  backend.fill(values, 0.0);
  std::int64_t at = 0, copy_at = 0;
  for (Array& array : arrays_) {
    const Shape shape = shape_of(array.parts);
    const std::int64_t size = element_count(shape);
    if (has_value(array)) {
      array.value = values.slice(at, size).reshape(shape);
      at += padded(size, unit_of(master));
    }
    if (has_copy(array)) {
      array.compute = copies.slice(copy_at, size).reshape(shape);
      copy_at += padded(size, unit_of(working));
    } else if (array.use != Use::lookup && shape.size() >= 2) {
      array.compute = array.value;
    }
  }
  place_gradients(backend, master, held == Held::section ? sections : std::vector<std::vector<std::string>>());
  make_parameters(order);
}

void ParameterStore::place_gradients(Backend& backend, Dtype master,
                                     const std::vector<std::vector<std::string>>& sections) {
  std::map<std::string, std::size_t> section_of;
  for (std::size_t s = 0; s < sections.size(); ++s) {
    for (const std::string& name : sections[s]) section_of[name] = s;
  }
  std::vector<std::int64_t> used(sections.size(), 0);  // of the shared storage, by section
  std::int64_t own = 0;
  std::vector<std::int64_t> places;
  for (const Array& array : arrays_) {
    const auto section = section_of.find(array.parts.front().name);
    std::int64_t& next = section == section_of.end() ? own : used[section->second];
    places.push_back(next);
    if (array.parts.front().trainable) next += padded(element_count(shape_of(array.parts)), unit_of(master));
  }
  const std::int64_t shared = used.empty() ? 0 : *std::max_element(used.begin(), used.end());
  const MemoryPurpose purpose("gradients");
  gradients_ = Tensor(backend.runtime(), {shared + own}, master);
  backend.fill(gradients_, 0.0);
  for (std::size_t i = 0; i < arrays_.size(); ++i) {
    if (!arrays_[i].parts.front().trainable) continue;
    const Shape shape = shape_of(arrays_[i].parts);
    const std::int64_t first = places[i] + (section_of.contains(arrays_[i].parts.front().name) ? 0 : shared);
    arrays_[i].gradient = gradients_.slice(first, element_count(shape)).reshape(shape);
  }
}

void ParameterStore::make_parameters(const std::vector<NamedShape>& order) {
  std::map<std::string, Parameter> made;
  for (const Array& array : arrays_) {
    std::int64_t row = 0;
    for (const ParameterPart& part : array.parts) {
      const std::int64_t rows = part.shape[0];
      const auto cut = [&](const Tensor& whole) { return whole.defined() ? whole.slice(row, rows) : Tensor(); };
      made[part.name] = Parameter{.name = part.name,
                                  .full_shape = part.full_shape,
                                  .offset = part.offset,
                                  .value = cut(array.value),
                                  .gradient = cut(array.gradient),
                                  .compute = cut(array.compute),
                                  .looked_up = array.use != Use::product,
                                  .copies = part.copies,
                                  .copy = part.copy,
                                  .decayed = part.decayed,
                                  .domain = part.domain};
      row += rows;
    }
  }
  for (const NamedShape& entry : order) {
    const auto found = made.find(entry.name);
    require(found != made.end() && found->second.full_shape == entry.shape, "parameter {} {} was not declared so",
            entry.name, to_string(entry.shape));
    parameters_.push_back(std::move(found->second));
    made.erase(found);
  }
  require(made.empty(), "parameter {} has no place in the order", made.empty() ? "" : made.begin()->first);
}

Weight ParameterStore::weight(std::size_t handle) const {
  return {arrays_.at(handle).compute, arrays_.at(handle).gradient};
}

Vector ParameterStore::vector(std::size_t handle) const {
  return {arrays_.at(handle).value, arrays_.at(handle).gradient};
}

void ParameterStore::refresh_compute(Backend& backend) const {
  for (const Array& array : arrays_) {
    if (array.compute.defined() && array.value.defined() && array.compute.raw() != array.value.raw())
      backend.cast(array.value, array.compute);
  }
}

}  // namespace lexring
