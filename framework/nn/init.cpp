#include "framework/nn/init.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "framework/base/parallel_for.h"
#include "framework/base/random.h"

namespace lexring {

namespace {

/// Where the elements of this rank's part stand in the whole array: `run` of them side by side, the next ones `stride`
/// further on.
struct Place {
  std::int64_t first = 0;
  std::int64_t run = 1;
  std::int64_t stride = 1;
};

Place place_of(const Parameter& parameter) {
  const Shape& part = parameter.value.shape();
  for (std::size_t dim = 2; dim < part.size(); ++dim) {
    require(part[dim] == parameter.full_shape[dim], "{} is cut along dimension {}; only the first two may be",
            parameter.name, dim);
  }
  const std::int64_t inner = parameter.value.row_elements();
  const std::int64_t full_columns = element_count({parameter.full_shape.begin() + 1, parameter.full_shape.end()});
  const std::int64_t first_column = part.size() >= 2 && part[1] > 0 ? parameter.offset[1] * (inner / part[1]) : 0;
  const std::int64_t first = parameter.offset[0] * full_columns + first_column;
  if (inner == full_columns) return {first, parameter.value.elements(), parameter.value.elements()};
  return {first, inner, full_columns};
}

template <class T>
void draw_normal(const Parameter& parameter, std::uint64_t seed, double deviation) {
  constexpr std::int64_t grain = 1 << 14, at_once = 1 << 17;  // what is copied is still in the caches
  const std::uint64_t stream = stream_id(parameter.name);
  const Place place = place_of(parameter);
  const Tensor& value = parameter.value;
  parallel_for(0, value.elements(), grain, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> host(static_cast<std::size_t>(std::min(at_once, end - begin)));
    while (begin < end) {
      std::size_t filled = 0;
      T* const to = value.data<T>() + begin;
      while (filled < host.size() && begin < end) {
        const std::int64_t row = begin / place.run, column = begin % place.run;
        const std::int64_t length =
            std::min({static_cast<std::int64_t>(host.size() - filled), end - begin, place.run - column});
        const auto count = static_cast<std::size_t>(length);
        random_normals(seed, stream, static_cast<std::uint64_t>(place.first + row * place.stride + column), deviation,
                       std::span(host).subspan(filled, count));
        filled += count, begin += length;
      }
      value.runtime().copy_from_host(reinterpret_cast<std::byte*>(to), reinterpret_cast<const std::byte*>(host.data()),
                                     filled * sizeof(T));
    }
  });
}

void require_f32(const Parameter& parameter) {
  require(parameter.value.dtype() == Dtype::f32, "{} is {}; parameters are f32 or f64", parameter.name,
          name_of(parameter.value.dtype()));
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
  require_f32(parameter);
  copy_in(value, std::vector<float>(values.begin(), values.end()));
}

void init_normal(const Parameter& parameter, std::uint64_t seed, double deviation) {
  if (parameter.value.dtype() == Dtype::f64) return draw_normal<double>(parameter, seed, deviation);
  require_f32(parameter);
  draw_normal<float>(parameter, seed, deviation);
}

void init_uniform(const Parameter& parameter, std::uint64_t seed, const std::vector<Interval>& of_rows) {
  const std::uint64_t stream = stream_id(parameter.name);
  const Place place = place_of(parameter);
  const std::int64_t columns = element_count({parameter.full_shape.begin() + 1, parameter.full_shape.end()});
  std::vector<double> values(static_cast<std::size_t>(parameter.value.elements()));
  for (std::int64_t i = 0; i < parameter.value.elements(); ++i) {
    const std::int64_t at = place.first + i / place.run * place.stride + i % place.run;
    const Interval& own = of_rows[static_cast<std::size_t>(at / columns)];
    const double unit =
        std::ldexp(static_cast<double>(random_bits(seed, stream, static_cast<std::uint64_t>(at)) >> 11), -53);
    values[static_cast<std::size_t>(i)] = own.low + unit * (own.high - own.low);
  }
  set_values(parameter, values);
}

void init_constant(const Parameter& parameter, double value) {
  set_values(parameter, std::vector<double>(static_cast<std::size_t>(parameter.value.elements()), value));
}

}  // namespace lexring
