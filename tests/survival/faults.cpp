/// Loaded before a program (LD_PRELOAD): lets one rank fail where a system would, in a call into the C library, or
/// changes the time of day; and counts messages. What it does is in the environment:
///
///   LEXRING_FAULT="RANK CALL AFTER WHAT FILE"   after so many calls of pread or fsync the next one loops for ever
///                                              (WHAT is loop) or reads a pipe into which nobody writes (stall);
///                                              `FILE` is that pipe, and FILE.began is made when it begins
///   LEXRING_CLOCK="RANK SECONDS AFTER"          after so many questions for it the time of day is another
///   LEXRING_MESSAGES=DIRECTORY                  at its end a rank that sent messages writes how many, and bytes, to
///                                              DIRECTORY/RANK
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string>

#include "parallel/comm/host/mpi_call.h"

namespace {

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

int own_rank() {
  const char* text = std::getenv("OMPI_COMM_WORLD_RANK");
  return text == nullptr ? -1 : std::atoi(text);
}

struct Fault {
  int rank = -2;
  std::string call, what, file;
  std::atomic<int> left = 0;

  Fault() {
    if (const char* text = std::getenv("LEXRING_FAULT")) {
      int after = 0;
      std::istringstream(text) >> rank >> call >> after >> what >> file;
      left = after;
    }
  }
  void meet(const char* name) {
    if (rank != own_rank() || call != name || left-- != 0) return;
    ::close(::open((file + ".began").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    for (volatile bool for_ever = true; what == "loop" && for_ever;) {
    }
    char byte = 0;
    const int pipe = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    while (::read(pipe, &byte, 1) != 0) {
    }
  }
};

Fault& fault() {
  static Fault only;
  return only;
}

/// Seconds that the time of day is wrong by.
time_t jump() {
  static int rank = -2, after = 0;
  static const time_t seconds = [] {
    time_t read = 0;
    if (const char* text = std::getenv("LEXRING_CLOCK")) std::istringstream(text) >> rank >> read >> after;
    return read;
  }();
  static std::atomic<int> questions = 0;
  return rank == own_rank() && questions++ >= after ? seconds : 0;
}

std::atomic<long> messages = 0, bytes = 0;

__attribute__((destructor)) void write_messages() {
  if (const char* directory = std::getenv("LEXRING_MESSAGES"); directory != nullptr && messages > 0)
    std::ofstream(directory + ("/" + std::to_string(own_rank()))) << messages << ' ' << bytes << '\n';
}

}  // namespace

extern "C" {

ssize_t pread(int file, void* to, size_t count, off_t offset) {
  static auto* const real = next<ssize_t(int, void*, size_t, off_t)>("pread");
  fault().meet("pread");
  return real(file, to, count, offset);
}

int fsync(int file) {
  static auto* const real = next<int(int)>("fsync");
  fault().meet("fsync");
  return real(file);
}

int clock_gettime(clockid_t clock, timespec* time) {
  static auto* const real = next<int(clockid_t, timespec*)>("clock_gettime");
  const int result = real(clock, time);
  if (clock == CLOCK_REALTIME) time->tv_sec += jump();
  return result;
}

time_t time(time_t* to) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (to != nullptr) *to = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(timeval* to, void*) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  *to = {now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

int MPI_Isend(const void* from, int count, MPI_Datatype type, int to, int tag, MPI_Comm group, MPI_Request* request) {
  int size = 0;
  PMPI_Type_size(type, &size);
  ++messages;
  bytes += static_cast<long>(count) * size;
  return PMPI_Isend(from, count, type, to, tag, group, request);
}
}
