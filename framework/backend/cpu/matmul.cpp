#include "framework/backend/cpu/matmul.h"

#include <array>
#include <cstddef>
#include <map>

#include <oneapi/dnnl/dnnl.hpp>

#define LEXRING_DNNL_CALL(call)                                                                                    \
  [&]() -> decltype(auto) {                                                                                        \
    try {                                                                                                          \
      return call;                                                                                                 \
    } catch (const dnnl::error& error) {                                                                           \
      fail("oneDNN: {} (status {}) in {} at {}:{}", error.what(), static_cast<int>(error.status), #call, __FILE__, \
           __LINE__);                                                                                              \
    }                                                                                                              \
  }()

namespace lexring::cpu {
namespace {

/// `rows` x `columns` as the product sees it, stored with `stride` elements from one row to the next.
dnnl::memory::desc describe(std::int64_t rows, std::int64_t columns, Dtype dtype, Layout layout, std::int64_t stride) {
  const auto type = dtype == Dtype::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  using Dims = dnnl::memory::dims;
  return {Dims{rows, columns}, type, layout == Layout::rows ? Dims{stride, 1} : Dims{1, stride}};
}

void* address_of(const Columns& x) {
  return static_cast<std::byte*>(x.matrix.raw()) + static_cast<std::size_t>(x.first) * size_of(x.dtype());
}

}  // namespace

struct MatrixProducts::Impl {
  struct Primitive {
    dnnl::matmul matmul;
    dnnl::memory::desc a, b, bias, c, scratch;
  };
  using Key = std::array<std::int64_t, 12>;

  Runtime& runtime;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<Key, Primitive> primitives;

  explicit Impl(Runtime& r) : runtime(r) {}

  Primitive make(std::int64_t m, std::int64_t n, std::int64_t k, const Columns& a, Layout a_layout, const Columns& b,
                 Layout b_layout, bool bias, const Columns& c, bool accumulate) const {
    Primitive p;
    p.a = describe(m, k, a.dtype(), a_layout, a.stride());
    p.b = describe(k, n, b.dtype(), b_layout, b.stride());
    p.c = describe(m, n, c.dtype(), Layout::rows, c.stride());
    if (bias) p.bias = describe(1, n, Dtype::f32, Layout::rows, n);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (accumulate) {
      dnnl::post_ops post;
      post.append_sum(1.0F);
      attributes.set_post_ops(post);
    }
    const dnnl::matmul::desc op = bias ? dnnl::matmul::desc(p.a, p.b, p.bias, p.c) : dnnl::matmul::desc(p.a, p.b, p.c);
    const dnnl::matmul::primitive_desc primitive(op, attributes, engine);
    p.scratch = primitive.scratchpad_desc();
    p.matmul = dnnl::matmul(primitive);
    return p;
  }
};

MatrixProducts::MatrixProducts(Runtime& runtime) : impl_(std::make_unique<Impl>(runtime)) {}
MatrixProducts::~MatrixProducts() = default;

bool MatrixProducts::has_bf16() const {
  using Type = dnnl::memory::data_type;
  const auto matrix = [](Type type) { return dnnl::memory::desc({16, 16}, type, dnnl::memory::dims{16, 1}); };
  try {
    const dnnl::matmul::primitive_desc found({matrix(Type::bf16), matrix(Type::bf16), matrix(Type::f32)},
                                             impl_->engine);
    return true;
  } catch (const dnnl::error&) {  // oneDNN has no other way to ask
    return false;
  }
}

void limit_matrix_products(CpuLevel level) {
  using Isa = dnnl::cpu_isa;
  constexpr Isa limits[] = {Isa::sse41, Isa::avx2, Isa::avx512_core, Isa::avx512_core_bf16};
  const Isa limit = limits[static_cast<std::size_t>(level)];
  if (dnnl::set_max_cpu_isa(limit) == dnnl::status::success) return;
  require(dnnl::get_effective_cpu_isa() == limit,
          "oneDNN computes with other instructions than {} already; a process has one level", name_of(level));
}

void MatrixProducts::product(const Columns& a, Layout a_layout, const Columns& b, Layout b_layout, const Tensor& bias,
                             const Columns& c, bool accumulate) {
  const std::int64_t m = c.rows(), n = c.width, k = a_layout == Layout::rows ? a.width : a.rows();
  if (m == 0 || n == 0 || k == 0) return;
  const Impl::Key key = {m,
                         n,
                         k,
                         a.stride(),
                         b.stride(),
                         c.stride(),
                         static_cast<int>(a.dtype()),
                         static_cast<int>(c.dtype()),
                         static_cast<int>(a_layout),
                         static_cast<int>(b_layout),
                         bias.defined(),
                         accumulate};
  auto found = impl_->primitives.find(key);
  if (found == impl_->primitives.end()) {
    found =
        impl_->primitives
            .emplace(key,
                     LEXRING_DNNL_CALL(impl_->make(m, n, k, a, a_layout, b, b_layout, bias.defined(), c, accumulate)))
            .first;
  }
  const Impl::Primitive& p = found->second;
  const auto scratch = impl_->runtime.allocate(p.scratch.get_size());
  std::unordered_map<int, dnnl::memory> arguments = {{DNNL_ARG_SRC, {p.a, impl_->engine, address_of(a)}},
                                                     {DNNL_ARG_WEIGHTS, {p.b, impl_->engine, address_of(b)}},
                                                     {DNNL_ARG_DST, {p.c, impl_->engine, address_of(c)}},
                                                     {DNNL_ARG_SCRATCHPAD, {p.scratch, impl_->engine, scratch.get()}}};
  if (bias.defined()) arguments.emplace(DNNL_ARG_BIAS, dnnl::memory(p.bias, impl_->engine, bias.raw()));
  LEXRING_DNNL_CALL(p.matmul.execute(impl_->stream, arguments));
  LEXRING_DNNL_CALL(impl_->stream.wait());
}

}  // namespace lexring::cpu
