/// What the tests of checkpoints share.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "parallel/checkpoint/checkpoint.h"

namespace lexring {

/// A directory of its own, deleted at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "lexring-checkpoint-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary directory can be made: " + pattern);
    path_ = pattern;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Element i of a test tensor: exact in bf16.
inline float element(std::int64_t i) { return static_cast<float>(i % 128) - 50.F; }

/// The part [offset, offset + shape) of the matrix whose element i (row-major) is element(i).
template <class T>
LogicalTensor matrix_part(Runtime& runtime, const std::string& name, const Shape& full, const Shape& offset,
                          const Shape& shape) {
  std::vector<T> values;
  for (std::int64_t r = 0; r < shape[0]; ++r) {
    for (std::int64_t c = 0; c < shape[1]; ++c)
      values.push_back(static_cast<T>(element((offset[0] + r) * full[1] + offset[1] + c)));
  }
  return {name, full, offset, Tensor::from(runtime, shape, values)};
}

/// Reads the same part from a checkpoint and compares.
template <class T>
void expect_part(Runtime& runtime, const CheckpointReader& reader, const std::string& name, const Shape& full,
                 const Shape& offset, const Shape& shape) {
  const LogicalTensor expected = matrix_part<T>(runtime, name, full, offset, shape);
  const LogicalTensor found{
      name, full, offset,
      Tensor::from(runtime, shape, std::vector<T>(static_cast<std::size_t>(element_count(shape)), T(777.F)))};
  reader.read(found);
  const auto a = found.data.to_host<T>(), b = expected.data.to_host<T>();
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i], b[i]) << name << " element " << i;
}

/// The message of the Error that `work` must throw.
template <class Work>
std::string error_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return "";
}

inline void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

class CheckpointTest : public ::testing::Test {
 protected:
  /// Three pieces by rows and more, saved and published at `step`.
  void save(std::int64_t step, int keep = 0, int skipped_in_a_row = 0) {
    CheckpointWriter writer(directory, *self, keep);
    TrainingState state = state_at(step);
    state.skipped_in_a_row = skipped_in_a_row;
    writer.save(state, {matrix_part<float>(*runtime, "w", {8, 6}, {0, 0}, {3, 6}),
                        matrix_part<float>(*runtime, "w", {8, 6}, {3, 0}, {1, 6}),
                        matrix_part<float>(*runtime, "w", {8, 6}, {4, 0}, {4, 6}),
                        matrix_part<double>(*runtime, "d", {2, 2}, {0, 0}, {2, 2}),
                        matrix_part<bfloat16>(*runtime, "b", {4, 4}, {0, 0}, {4, 4})});
    EXPECT_EQ(writer.finish(), std::nullopt);
  }
  static TrainingState state_at(std::int64_t step) {
    return {step, 32 * step, 1, "0123abcd", "[model]\nlayers = 2\n", 0, {"bytes", ""}};
  }

  TemporaryDirectory temporary;
  std::filesystem::path directory = temporary.path() / "run";
  std::unique_ptr<Runtime> runtime = make_cpu_runtime();
  std::unique_ptr<Communicator> self = make_self_communicator();
};

}  // namespace lexring
