/// Where kernels start, and what is said of one that failed.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <typeinfo>

struct CUstream_st;

namespace lexring::cuda {

/// Where kernels start, one after the other.
struct Stream {
  CUstream_st* handle = nullptr;  ///< nullptr where kernels are emulated
  bool checked = false;           ///< every start waits for its kernel, so that an error names the kernel that made it
};

/// An argument of a kernel, good while the argument is.
struct Argument {
  const std::type_info& type;
  const void* value;
  std::size_t bytes;
};
/// use(what a kernel with these parameters is given).
template <class... Parameters, class F>
void with_arguments(const F& use, const Parameters&... given) {
  const Argument all[] = {{typeid(Parameters), &given, sizeof(Parameters)}...};
  use(std::span<const Argument>(all));
}

/// A kernel's start, for people.
struct Launch {
  std::string_view kernel;  ///< mangled or not
  unsigned blocks[3];
  unsigned threads;  ///< of a block
  std::size_t shared_bytes;
  std::span<const Argument> arguments;
};
/// "kernel scale<float> on 12 x 1 x 1 blocks of 128 threads with 4096 bytes of shared memory; arguments: ...": numbers
/// as they are, all else as its type and its words of 8 bytes, among which are the addresses in a struct.
std::string describe(const Launch& launch);

}  // namespace lexring::cuda
