/// What communication must know of a CUDA runtime, in a program that may have been built without CUDA
/// (no_cuda_link.cpp: then there is none).
#pragma once

#include <memory>
#include <string>

#include "framework/device/runtime.h"
#include "parallel/comm/gpu/side_copies.h"

struct CUstream_st;

namespace lexring {

/// The stream of all the runtime's work.
CUstream_st* stream_of(const Runtime& runtime);
/// Where the device is plugged in: one on this node per name.
std::string bus_of(const Runtime& runtime);
std::unique_ptr<SideCopies> make_side_copies(Runtime& runtime);

}  // namespace lexring
