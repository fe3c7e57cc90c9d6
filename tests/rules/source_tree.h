/// The repository's own files, as the rules read them.
#pragma once

#include <string>
#include <vector>

namespace lexring::testing {

struct SourceFile {
  std::string path;  ///< relative to the root: "parallel/mesh.h"
  std::string text;  ///< everything
  std::string code;  ///< C++ only: without comments and without the insides of string literals
  std::vector<std::string>
      includes;  ///< C++ only: what is between quotes or angle brackets, "<mpi.h>" with its brackets

  std::string folder() const;     ///< the top folder: "parallel"
  std::string name() const;       ///< "mesh.h"
  std::string extension() const;  ///< ".h"
  /// CUDA too: it is compiled as C++ in tests.
  bool is_cpp() const { return extension() == ".h" || is_source(); }
  bool is_source() const { return extension() == ".cpp" || extension() == ".cu"; }
  bool is(const std::string& prefix) const { return path.rfind(prefix, 0) == 0; }
};

/// Every file but build outputs, runs and what begins with a dot.
std::vector<SourceFile> read_source_tree(const std::string& root);

/// C++ without comments and string contents; lines stay lines.
std::string strip(const std::string& text);

}  // namespace lexring::testing
