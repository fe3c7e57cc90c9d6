#include "framework/backend/cuda/matmul.h"

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "framework/backend/cuda/nvidia/cublas_call.h"

namespace lexring::cuda {
namespace {

constexpr std::size_t workspace_bytes = 32 << 20;  ///< what NVIDIA recommends for compute capability 9.0

cudaDataType type_of(Dtype dtype) {
  require(dtype == Dtype::f32 || dtype == Dtype::bf16,
          "matrix products of the cuda backend are of f32 and bf16, not {}", name_of(dtype));
  return dtype == Dtype::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

/// The largest power of two, at most 256, that divides an address.
std::uint32_t alignment_of(const void* address) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | 256U;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

/// Everything that a choice of kernel depends on.
struct Problem {
  std::int64_t rows, columns, inner;
  std::int64_t a_stride, b_stride, y_stride;
  Layout a_layout, b_layout;
  Dtype operands, result;
  bool with_bias, accumulate;
  std::uint32_t a_alignment, b_alignment, y_alignment;
  auto operator<=>(const Problem&) const = default;
};

/// A problem as cuBLASLt knows it. Its matrices are column by column, ours row by row, so that it computes y^T = b^T
/// a^T: its first operand is our b, and its bias, one number per row, is ours.
struct Plan {
  cublasLtMatmulDescOpaque_t description;
  cublasLtMatrixLayoutOpaque_t first, second, result;
  cublasLtMatmulAlgo_t algorithm;
};

template <class Value>
void set(Plan& plan, cublasLtMatmulDescAttributes_t attribute, const Value& value) {
  LEXRING_CUBLAS_CALL(cublasLtMatmulDescSetAttribute(&plan.description, attribute, &value, sizeof(value)));
}
template <class Value>
void set(cublasLtMatmulPreferenceOpaque_t& preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const Value& value) {
  LEXRING_CUBLAS_CALL(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value)));
}

/// `rows` x `columns` as we see it; transposed in memory where its layout is `columns`. `stride`: elements from one row
/// in memory to the next.
cublasLtMatrixLayoutOpaque_t layout_of(cudaDataType type, std::int64_t rows, std::int64_t columns, Layout layout,
                                       std::int64_t stride) {
  if (layout == Layout::columns) std::swap(rows, columns);
  cublasLtMatrixLayoutOpaque_t result;
  LEXRING_CUBLAS_CALL(cublasLtMatrixLayoutInit(&result, type, static_cast<std::uint64_t>(columns),
                                               static_cast<std::uint64_t>(rows), stride));
  return result;
}

void* address_of(const Columns& x) {
  return static_cast<std::byte*>(x.matrix.raw()) + static_cast<std::size_t>(x.first) * size_of(x.dtype());
}

Plan describe(const Problem& p, F32Products f32, const void* bias) {
  Plan plan{};
  const bool tf32 = f32 == F32Products::tf32 && p.operands == Dtype::f32;
  LEXRING_CUBLAS_CALL(
      cublasLtMatmulDescInit(&plan.description, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F));
  set(plan, CUBLASLT_MATMUL_DESC_TRANSA, p.b_layout == Layout::columns ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan, CUBLASLT_MATMUL_DESC_TRANSB, p.a_layout == Layout::columns ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (p.with_bias) {
    set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);  // its alignment counts for the choice
  }
  plan.first = layout_of(type_of(p.operands), p.inner, p.columns, p.b_layout, p.b_stride);
  plan.second = layout_of(type_of(p.operands), p.rows, p.inner, p.a_layout, p.a_stride);
  plan.result = layout_of(type_of(p.result), p.rows, p.columns, Layout::rows, p.y_stride);
  return plan;
}

/// Nothing where cuBLAS has no kernel.
std::optional<Plan> choose(cublasLtHandle_t handle, const Problem& p, F32Products f32, const void* bias) {
  Plan plan = describe(p, f32, bias);
  cublasLtMatmulPreferenceOpaque_t preference;
  LEXRING_CUBLAS_CALL(cublasLtMatmulPreferenceInit(&preference));
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes});
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.b_alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.a_alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.y_alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.y_alignment);
  // Partial sums of a split inner dimension are never rounded to bf16.
  const std::uint32_t reductions =
      p.result == Dtype::f32 ? CUBLASLT_REDUCTION_SCHEME_MASK : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle, &plan.description, &plan.first, &plan.second, &plan.result, &plan.result, &preference, 1, &found, &count);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) LEXRING_CUBLAS_CALL(status);
  if (status != CUBLAS_STATUS_SUCCESS || count == 0) return std::nullopt;
  plan.algorithm = found.algo;
  return plan;
}

Tensor make_workspace(Runtime& runtime) {
  const MemoryPurpose purpose("matrix products");
  return {runtime, {workspace_bytes / 4}, Dtype::f32};
}

}  // namespace

struct MatrixProducts::Implementation {
  Implementation(const Gpu& on, F32Products f32_products)
      : gpu(on), f32(f32_products), workspace(make_workspace(on.runtime)) {
    LEXRING_CUBLAS_CALL(cublasLtCreate(&handle));
  }
  Implementation(const Implementation&) = delete;
  Implementation& operator=(const Implementation&) = delete;
  ~Implementation() { static_cast<void>(cublasLtDestroy(handle)); }

  /// The bias as the epilogue wants it: of the result's dtype, aligned.
  Tensor prepared(const Tensor& bias, Dtype result) const {
    if (!bias.defined() || (bias.dtype() == result && alignment_of(bias.raw()) >= 16)) return bias;
    Tensor copy(gpu.runtime, bias.shape(), result);
    cast(gpu, bias, copy);
    return copy;
  }

  /// nullptr where cuBLAS has no kernel; asked once per problem.
  Plan* plan_for(const Problem& problem, const void* bias) {
    auto known = plans.find(problem);
    if (known == plans.end()) known = plans.emplace(problem, choose(handle, problem, f32, bias)).first;
    return known->second ? &*known->second : nullptr;
  }

  Gpu gpu;
  F32Products f32;
  Tensor workspace;
  cublasLtHandle_t handle = nullptr;
  std::map<Problem, std::optional<Plan>> plans;
};

MatrixProducts::MatrixProducts(const Gpu& gpu, F32Products f32)
    : implementation_(std::make_unique<Implementation>(gpu, f32)) {}
MatrixProducts::~MatrixProducts() = default;

void MatrixProducts::product(const Columns& a, Layout a_layout, const Columns& b, Layout b_layout, const Tensor& bias,
                             const Columns& y, bool accumulate) {
  Implementation& own = *implementation_;
  const std::int64_t rows = y.rows(), columns = y.width, inner = a_layout == Layout::rows ? a.width : a.rows();
  if (rows == 0 || columns == 0) return;
  if (inner == 0) {  // cuBLAS knows no empty sum: a sum of one zero
    const Tensor zeros(own.gpu.runtime, {std::max(rows, columns)}, a.dtype());
    fill(own.gpu, zeros, 0);
    return product(zeros.slice(0, rows).reshape({rows, 1}), Layout::rows, zeros.slice(0, columns).reshape({1, columns}),
                   Layout::rows, bias, y, accumulate);
  }
  const Tensor epilogue_bias = own.prepared(bias, y.dtype());
  const void* const bias_address = bias.defined() ? epilogue_bias.raw() : nullptr;
  const Problem problem{rows,
                        columns,
                        inner,
                        a.stride(),
                        b.stride(),
                        y.stride(),
                        a_layout,
                        b_layout,
                        a.dtype(),
                        y.dtype(),
                        bias.defined(),
                        accumulate,
                        alignment_of(address_of(a)),
                        alignment_of(address_of(b)),
                        alignment_of(address_of(y))};
  Plan* const plan = own.plan_for(problem, bias_address);
  if (plan == nullptr && bias.defined()) {
    product(a, a_layout, b, b_layout, Tensor(), y, accumulate);
    require(y.width == y.stride(), "a bias is added to whole rows");
    return add_bias(own.gpu, bias, y.matrix);
  }
  require(plan != nullptr,
          "cuBLAS has no kernel for a product [{}, {}] x [{}, {}] of {} to {}, aligned to {}, {} and {} bytes", rows,
          inner, inner, columns, name_of(a.dtype()), name_of(y.dtype()), problem.a_alignment, problem.b_alignment,
          problem.y_alignment);
  if (problem.with_bias) set(*plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias_address);
  const float one = 1, beta = accumulate ? 1 : 0;
  LEXRING_CUBLAS_CALL(cublasLtMatmul(own.handle, &plan->description, &one, address_of(b), &plan->first, address_of(a),
                                     &plan->second, &beta, address_of(y), &plan->result, address_of(y), &plan->result,
                                     &plan->algorithm, own.workspace.raw(), workspace_bytes, own.gpu.stream.handle));
}

}  // namespace lexring::cuda
