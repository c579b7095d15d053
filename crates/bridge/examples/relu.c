/* Compiles a program and runs it once: y = max(x, 0) on [1, 4, 1, 16]. */
#include "ane_bridge.h"

#include <stdio.h>
#include <string.h>

static const char PROGRAM[] =
    "program(1.3)\n"
    "{\n"
    "    func main<ios18>(tensor<fp16, [1, 4, 1, 16]> x) {\n"
    "        tensor<fp16, [1, 4, 1, 16]> y = relu(x = x)[name = string(\"y\")];\n"
    "    } -> (y);\n"
    "}\n";

enum { COUNT = 4 * 16 };

static int failed(void) {
    fprintf(stderr, "%s\n", ane_bridge_last_error());
    return 1;
}

int main(void) {
    float x[COUNT], y[COUNT];
    for (int i = 0; i < COUNT; i++) x[i] = (float)(i - 32);

    ANEDeviceHandle *device = ane_bridge_open("auto");
    if (!device) return failed();
    char *name = ane_bridge_describe_device(device);
    if (!name) return failed();
    printf("%s\n", name);
    ane_bridge_free_blob(name);

    /* No weight files, and surfaces of the sizes that the ports need. */
    ANEKernelHandle *kernel = ane_bridge_compile_on(device, PROGRAM, strlen(PROGRAM), NULL, NULL,
                                                    NULL, 0, 0, NULL, 0, NULL);
    if (!kernel || !ane_bridge_write_input_f32(kernel, 0, x, COUNT) || !ane_bridge_eval(kernel) ||
        !ane_bridge_read_output_f32(kernel, 0, y, COUNT))
        return failed();
    printf("relu(%g) = %g, relu(%g) = %g\n", x[0], y[0], x[COUNT - 1], y[COUNT - 1]);

    ane_bridge_free(kernel);
    ane_bridge_close(device);
    return 0;
}
