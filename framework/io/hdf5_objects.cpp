#include <system_error>

#include "framework/io/hdf5_handle.h"

namespace lexring {
namespace {

using Lock = std::lock_guard<std::mutex>;

void require_readable(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  require(std::filesystem::exists(status), "{} does not exist; check the path", path.string());
  require(!std::filesystem::is_directory(status), "{} is a directory, but an HDF5 file is needed; name the file in it",
          path.string());
  const auto size = std::filesystem::file_size(path, error);
  require(error || size > 0, "{} is empty, not an HDF5 file; write or copy it again", path.string());
}

herr_t take_name(hid_t, const char* name, const H5L_info_t*, void* out) noexcept {
  static_cast<std::vector<std::string>*>(out)->emplace_back(name);
  return 0;
}

}  // namespace

Hdf5File::Hdf5File(const std::filesystem::path& path, Mode mode) {
  const Lock lock(hdf5_mutex());
  const std::string subject = path.string();
  LEXRING_HDF5_CALL(subject, H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr));
  const Hdf5Handle access(LEXRING_HDF5_CALL(subject, H5Pcreate(H5P_FILE_ACCESS)), H5Pclose);
  LEXRING_HDF5_CALL(subject, H5Pset_fclose_degree(access, H5F_CLOSE_STRONG));
#if H5_VERSION_GE(1, 10, 7)
  LEXRING_HDF5_CALL(subject, H5Pset_file_locking(access, false, true));
#endif
  Hdf5Handle file;
  if (mode == Mode::read) {
    require_readable(path);
    const htri_t is_hdf5 = H5Fis_hdf5(path.c_str());
    require(is_hdf5 != 0, "{} is not an HDF5 file: it has no HDF5 signature; check the path", subject);
    file = {LEXRING_HDF5_CALL(subject, H5Fopen(path.c_str(), H5F_ACC_RDONLY, access)), H5Fclose};
  } else {
    require(!std::filesystem::is_directory(path), "{} is a directory; give the name of a file to write", subject);
    const auto parent = path.parent_path();
    require(parent.empty() || std::filesystem::is_directory(parent),
            "{} cannot be written: its directory does not exist; make it first", subject);
    file = {LEXRING_HDF5_CALL(subject, H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access)), H5Fclose};
  }
  impl_ = std::make_unique<Impl>(Impl{path, mode, std::move(file)});
}

Hdf5File::Hdf5File(Hdf5File&&) noexcept = default;

Hdf5File& Hdf5File::operator=(Hdf5File&& other) noexcept {
  if (this == &other) return *this;
  const Lock lock(hdf5_mutex());
  impl_ = std::move(other.impl_);
  return *this;
}

Hdf5File::~Hdf5File() {
  if (!impl_) return;
  const Lock lock(hdf5_mutex());
  impl_.reset();
}

void Hdf5File::close() {
  if (!impl_) return;
  const Lock lock(hdf5_mutex());
  const auto closing = std::move(impl_);
  const std::string subject = closing->path.string();
  if (closing->mode == Mode::create) LEXRING_HDF5_CALL(subject, H5Fflush(closing->file, H5F_SCOPE_GLOBAL));
  LEXRING_HDF5_CALL(subject, H5Fclose(closing->file.release()));
}

const std::filesystem::path& Hdf5File::path() const { return impl_->path; }

bool Hdf5File::exists(const std::string& object) const {
  const Lock lock(hdf5_mutex());
  std::size_t begin = object.find_first_not_of('/');
  while (begin != std::string::npos) {  // H5Lexists fails where a group on the way is missing
    const std::size_t end = object.find('/', begin);
    if (H5Lexists(impl_->file, object.substr(0, end).c_str(), H5P_DEFAULT) <= 0) return false;
    begin = object.find_first_not_of('/', end);
  }
  return object.find_first_not_of('/') == std::string::npos ||
         H5Oexists_by_name(impl_->file, object.c_str(), H5P_DEFAULT) > 0;
}

std::vector<std::string> Hdf5File::members(const std::string& group) const {
  const Lock lock(hdf5_mutex());
  const std::string name = group.empty() ? "/" : group;
  const std::string subject = impl_->subject(name);
  std::vector<std::string> names;
  const Hdf5Handle opened(LEXRING_HDF5_CALL(subject, H5Gopen2(impl_->file, name.c_str(), H5P_DEFAULT)), H5Gclose);
  LEXRING_HDF5_CALL(subject, H5Literate(opened, H5_INDEX_NAME, H5_ITER_INC, nullptr, take_name, &names));
  return names;
}

bool Hdf5File::is_group(const std::string& object) const {
  const Lock lock(hdf5_mutex());
  const Hdf5Handle opened = impl_->open_object(object);
  return H5Iget_type(opened) == H5I_GROUP;
}

Hdf5Handle Hdf5File::Impl::open_dataset(const std::string& name) const {
  require(H5Oexists_by_name(file, name.c_str(), H5P_DEFAULT) > 0,
          "{} has no dataset {}; it may be of another kind or version", path.string(), name);
  return {LEXRING_HDF5_CALL(subject(name), H5Dopen2(file, name.c_str(), H5P_DEFAULT)), H5Dclose};
}

Hdf5Handle Hdf5File::Impl::open_object(const std::string& name) const {
  return {LEXRING_HDF5_CALL(subject(name), H5Oopen(file, name.empty() ? "/" : name.c_str(), H5P_DEFAULT)), H5Oclose};
}

}  // namespace lexring
