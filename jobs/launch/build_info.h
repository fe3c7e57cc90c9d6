/// What this binary was built from. CMake writes the source, build_info.in with what it found; at each build too, where
/// the commit has changed.
#pragma once

namespace lexring {

struct BuildInfo {
  const char* version;  ///< "0.1.0"
  const char*
      commit;  ///< "1a2b3c4d5e6f", with "-dirty" where files differed from it; "unknown": built from no git checkout
  const char* build;      ///< "Release, GNU 12.2.0, x86_64", and sanitizers
  const char* cuda;       ///< "13.0.88 for sm_80 and 90a-real, with NCCL"; "": not built in
  const char* libraries;  ///< "oneDNN 2.6.3, HDF5 1.10.8, ...", as they were at the build
};
extern const BuildInfo build_info;

}  // namespace lexring
