# inoculum_embed(<library> <file>…): each file becomes a constant of its text, named after it.
# datasets/sandbox/driver.py is embedded::driver_py of "embedded/datasets/sandbox/driver.py.h".
function(inoculum_embed library)
  foreach(file ${ARGN})
    file(READ ${CMAKE_SOURCE_DIR}/${file} EMBEDDED_TEXT)
    get_filename_component(name ${file} NAME)
    string(MAKE_C_IDENTIFIER ${name} EMBEDDED_NAME)
    set(EMBEDDED_FILE ${file})
    configure_file(${CMAKE_SOURCE_DIR}/cmake/embedded.h.in
                   ${CMAKE_BINARY_DIR}/embedded/${file}.h @ONLY)
    set_property(DIRECTORY ${CMAKE_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  endforeach()
  target_include_directories(${library} PRIVATE ${CMAKE_BINARY_DIR})
endfunction()
