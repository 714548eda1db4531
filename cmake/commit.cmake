# Writes the commit into the installed package, for those who measure it: fusednn/commit.txt, "+" where files that git
# knows were changed. At each install, so that it never is an earlier one's; nothing where there is no git checkout.
install(
  CODE "
  # Sources that were unpacked inside another project's checkout are not its commit.
  execute_process(
    COMMAND git -C \"${PROJECT_SOURCE_DIR}\" ls-files --error-unmatch CMakeLists.txt
    RESULT_VARIABLE unknown OUTPUT_QUIET ERROR_QUIET
  )
  execute_process(
    COMMAND git -C \"${PROJECT_SOURCE_DIR}\" describe --always --abbrev=12 --exclude=* --dirty=+
    RESULT_VARIABLE status OUTPUT_VARIABLE commit ERROR_QUIET
  )
  if(unknown EQUAL 0 AND status EQUAL 0)
    file(WRITE \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/fusednn/commit.txt\" \"\${commit}\")
  endif()
"
)
