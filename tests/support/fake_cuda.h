/// What tests ask of the fake CUDA. All is on device 1; a thread is on device 0 until it says otherwise, and its calls
/// fail there.
#pragma once

namespace lexring::testing {

constexpr int fake_gpu = 1;

/// Calls so far that a thread made on another device.
int calls_on_another_device();
/// Whether to ask an event is an error, as it is behind a kernel that failed.
void break_events(bool broken);

}  // namespace lexring::testing
