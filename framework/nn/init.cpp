#include "framework/nn/init.h"

#include "framework/base/random.h"

namespace lexring {

namespace {

/// Global row-major index of every element of this rank's part, in order.
template <class Visit>
void for_each_global_index(const Parameter& parameter, Visit visit) {
  const Shape& part = parameter.value.shape();
  const std::int64_t inner = parameter.value.row_elements();
  for (std::size_t dim = 2; dim < part.size(); ++dim) {
    require(part[dim] == parameter.full_shape[dim], "{} is cut along dimension {}; only the first two may be",
            parameter.name, dim);
  }
  const std::int64_t full_columns =
      part.size() >= 2 ? element_count({parameter.full_shape.begin() + 1, parameter.full_shape.end()}) : 1;
  const std::int64_t column_elements = part.size() >= 2 && part[1] > 0 ? inner / part[1] : 1;
  const std::int64_t first_column = part.size() >= 2 ? parameter.offset[1] * column_elements : 0;
  for (std::int64_t row = 0; row < part[0]; ++row) {
    const std::int64_t start = (parameter.offset[0] + row) * full_columns + first_column;
    for (std::int64_t column = 0; column < inner; ++column) visit(start + column);
  }
}

template <class T>
void copy_in(const Tensor& value, const std::vector<T>& host) {
  value.runtime().copy_from_host(value.raw(), reinterpret_cast<const std::byte*>(host.data()), value.bytes());
}

}  // namespace

void set_values(const Parameter& parameter, const std::vector<double>& values) {
  const Tensor& value = parameter.value;
  require(static_cast<std::int64_t>(values.size()) == value.elements(), "{} values do not fill {} {}", values.size(),
          parameter.name, to_string(value.shape()));
  if (value.dtype() == Dtype::f64) return copy_in(value, values);
  require(value.dtype() == Dtype::f32, "{} is {}; parameters are f32 or f64", parameter.name, name_of(value.dtype()));
  copy_in(value, std::vector<float>(values.begin(), values.end()));
}

void init_normal(const Parameter& parameter, std::uint64_t seed, double deviation) {
  const std::uint64_t stream = stream_id(parameter.name);
  std::vector<double> values;
  values.reserve(static_cast<std::size_t>(parameter.value.elements()));
  for_each_global_index(parameter, [&](std::int64_t index) {
    values.push_back(deviation * random_normal(seed, stream, static_cast<std::uint64_t>(index)));
  });
  set_values(parameter, values);
}

void init_constant(const Parameter& parameter, double value) {
  set_values(parameter, std::vector<double>(static_cast<std::size_t>(parameter.value.elements()), value));
}

}  // namespace lexring
