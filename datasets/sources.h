/// The inputs of a dataset, as its attribute `source` keeps them and as people read them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace lexring {

/// The names one behind the other, as a shell would take them (names with spaces in quotes). HDF5 gives an attribute 64
/// KiB: beyond some 4,000 bytes the rest is " ... and 123 more".
std::string join_sources(const std::vector<std::string>& inputs);

/// Of what join_sources made (or an earlier version, which quoted nothing and counted nothing), the first few and a
/// count: "a.txt, b.txt, c.txt and 97 more". One line, whatever the names hold.
std::string describe_sources(const std::string& source, std::size_t first = 3);

/// A name on one line: what would control a terminal is "?".
std::string printable(std::string name);

}  // namespace lexring
