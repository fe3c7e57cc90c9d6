/// Files that survive a power cut: fsync, atomic replacement, checksums. Every error names the path and the system's
/// reason.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace lexring {

/// XXH3-64 as 16 hexadecimal digits.
std::string hash_text(std::string_view text);
/// XXH3-64 of a file's bytes; throws Error when it cannot be read.
std::string hash_file(const std::filesystem::path& path);
std::uint64_t size_of_file(const std::filesystem::path& path);
std::string read_text_file(const std::filesystem::path& path);

/// Waits until a file's or directory's contents are on disk.
void sync_path(const std::filesystem::path& path);
/// Writes and syncs a new file. The directory is the caller's to sync.
void write_text_file(const std::filesystem::path& path, std::string_view text);
/// Like write_text_file, but readers see either the old or the new contents, also after a power cut.
void replace_text_file(const std::filesystem::path& path, std::string_view text);
/// Renames and syncs the directory that holds both.
void rename_path(const std::filesystem::path& from, const std::filesystem::path& to);
void make_directories(const std::filesystem::path& path);
void remove_tree(const std::filesystem::path& path);

}  // namespace lexring
