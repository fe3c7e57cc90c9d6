# cmake -DSOURCE=DIR -DFROM=FILE.in -DTO=FILE -P build_commit.cmake: FROM with @lexring_commit@ filled in; TO stays as
# it is, and nothing is compiled, where that is what it holds already.
set(lexring_commit unknown)
if(EXISTS ${SOURCE}/.git) # of our own, not of whoever's tree we lie in
  execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
    OUTPUT_VARIABLE commit RESULT_VARIABLE status OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(status EQUAL 0)
    set(lexring_commit ${commit})
  endif()
endif()
configure_file(${FROM} ${TO} @ONLY)
