/* Uses every function of ane_bridge.h, rightly and wrongly, from one thread and from many. */
#define _POSIX_C_SOURCE 200809L

#include "ane_bridge.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            fprintf(stderr, "%s:%d: %s does not hold; last error: `%s`\n", __FILE__, __LINE__, \
                    #condition, ane_bridge_last_error());                                    \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

#define SAYS(words) CHECK(strstr(ane_bridge_last_error(), words) != NULL)

enum { IN = 32, OUT = 48, WIDTH = 16 };

/* y [1, OUT, 1, WIDTH] = W [OUT, IN] x [1, IN, 1, WIDTH] in fp16, with fp32 ports. */
static const char LINEAR[] =
    "program(1.3)\n{\n"
    "func main<ios18>(tensor<fp32, [1,32,1,16]> x) {\n"
    "string half = const()[name=string(\"half\"), val=string(\"fp16\")];\n"
    "string single = const()[name=string(\"single\"), val=string(\"fp32\")];\n"
    "string valid = const()[name=string(\"valid\"), val=string(\"valid\")];\n"
    "tensor<int32, [2]> ones = const()[name=string(\"ones\"), val=tensor<int32, [2]>([1,1])];\n"
    "tensor<int32, [4]> none = const()[name=string(\"none\"), val=tensor<int32, [4]>([0,0,0,0])];\n"
    "int32 one = const()[name=string(\"one\"), val=int32(1)];\n"
    "tensor<fp16, [48,32,1,1]> w = const()[name=string(\"w\"), val=tensor<fp16, [48,32,1,1]>"
    "(BLOBFILE(path=string(\"@model_path/weights/weight.bin\"), offset=uint64(64)))];\n"
    "tensor<fp16, [1,32,1,16]> h = cast(dtype=half, x=x)[name=string(\"h\")];\n"
    "tensor<fp16, [1,48,1,16]> p = conv(dilations=ones, groups=one, pad=none, pad_type=valid, "
    "strides=ones, weight=w, x=h)[name=string(\"p\")];\n"
    "tensor<fp32, [1,48,1,16]> y = cast(dtype=single, x=p)[name=string(\"y\")];\n"
    "} -> (y);\n}\n";

/* y = a + b, [1, 4, 1, 16] in fp16. */
static const char SUM[] =
    "program(1.3)\n{\n"
    "func main<ios18>(tensor<fp16, [1,4,1,16]> a, tensor<fp16, [1,4,1,16]> b) {\n"
    "tensor<fp16, [1,4,1,16]> y = add(x=a, y=b)[name=string(\"y\")];\n"
    "} -> (y);\n}\n";

static float number(unsigned i) {
    return (float)((i * 2654435761u) >> 8) / (float)(1u << 23) - 1.0f;
}

static ANEKernelHandle *compile_sum(const ANEDeviceHandle *device) {
    ANEKernelHandle *kernel = ane_bridge_compile_on(device, SUM, strlen(SUM), NULL, NULL, NULL, 0,
                                                    0, NULL, 0, NULL);
    CHECK(kernel != NULL);
    return kernel;
}

/* Products of fp16 factors (2^-11 each), summed in fp32, rounded once to fp16. */
static void check_product(const float *w, const float *x, const float *y, float slack) {
    for (int i = 0; i < OUT; i++) {
        for (int j = 0; j < WIDTH; j++) {
            double sum = 0, terms = 0;
            for (int k = 0; k < IN; k++) {
                double product = (double)w[i * IN + k] * x[k * WIDTH + j];
                sum += product;
                terms += fabs(product);
            }
            double half = ldexp(1, -11);
            double bound = terms * (2 * half + slack + IN * ldexp(1, -24)) + fabs(sum) * half;
            CHECK(fabs(y[i * WIDTH + j] - sum) <= bound + ldexp(1, -24));
        }
    }
}

static void test_before_init(void) {
    CHECK(ane_bridge_compile(SUM, strlen(SUM), NULL, 0, 0, NULL, 0, NULL) == NULL);
    SAYS("not initialized");
    CHECK(ane_bridge_init() == 0);
    CHECK(strcmp(ane_bridge_last_error(), "") == 0);
    CHECK(ane_bridge_init() == 0);
    CHECK(ane_bridge_get_compile_count() == 0);
    CHECK(strchr(ane_bridge_version(), '.') != NULL);
}

static void test_linear(void) {
    float w[OUT * IN], turned[IN * OUT], x[IN * WIDTH], y[OUT * WIDTH];
    for (int i = 0; i < OUT * IN; i++) w[i] = number(i);
    for (int i = 0; i < IN * OUT; i++) turned[i] = w[i % OUT * IN + i / OUT];
    for (int i = 0; i < IN * WIDTH; i++) x[i] = number(7777 + i);

    size_t length = 0, same = 0;
    uint8_t *blob = ane_bridge_build_weight_blob(w, OUT, IN, &length);
    uint8_t *again = ane_bridge_build_weight_blob_transposed(turned, IN, OUT, &same);
    CHECK(blob && again && length == 128 + 2 * OUT * IN && same == length);
    CHECK(memcmp(blob, again, length) == 0);

    size_t in = sizeof x, out = sizeof y;
    ANEKernelHandle *kernel =
        ane_bridge_compile(LINEAR, strlen(LINEAR), blob, length, 1, &in, 1, &out);
    CHECK(kernel != NULL);
    CHECK(ane_bridge_get_compile_count() == 1);
    CHECK(ane_bridge_write_input(kernel, 0, x, sizeof x));
    CHECK(ane_bridge_eval(kernel));
    CHECK(ane_bridge_read_output(kernel, 0, y, sizeof y));
    check_product(w, x, y, 0);
    CHECK(ane_bridge_run_seconds(kernel) >= 0);

    const char *name = "@model_path/weights/weight.bin";
    const uint8_t *data = again;
    ANEKernelHandle *second = ane_bridge_compile_multi_weights(
        LINEAR, strlen(LINEAR), &name, &data, &same, 1, 1, &in, 1, &out);
    CHECK(second != NULL && second != kernel);
    CHECK(ane_bridge_get_compile_count() == 2);
    CHECK(ane_bridge_write_input_f32(second, 0, x, IN * WIDTH));
    float z[OUT * WIDTH];
    CHECK(ane_bridge_eval(second));
    CHECK(ane_bridge_read_output_f32(second, 0, z, OUT * WIDTH));
    CHECK(memcmp(y, z, sizeof y) == 0);

    ane_bridge_reset_compile_count();
    CHECK(ane_bridge_get_compile_count() == 0);
    ane_bridge_free_blob(blob);
    ane_bridge_free_blob(again);
    ane_bridge_free_blob(again);
    SAYS("has not taken back");
    ane_bridge_free(kernel);
    ane_bridge_free(second);
}

static void test_quantized(void) {
    float w[OUT * IN], scale = 0;
    for (int i = 0; i < OUT * IN; i++) w[i] = number(i);
    size_t length = 0, same = 0;
    uint8_t *blob = ane_bridge_build_weight_blob_quantized(w, OUT, IN, &scale, &length);
    CHECK(blob != NULL && length == 128 + OUT * IN && scale > 0);
    const int8_t *q = (const int8_t *)(blob + 128);
    for (int i = 0; i < OUT * IN; i++) {
        CHECK(fabsf(q[i] * scale - w[i]) <= scale * 0.5001f);
    }
    uint8_t *again = ane_bridge_build_weight_blob_int8(q, OUT, IN, &same);
    CHECK(again != NULL && same == length && memcmp(blob, again, length) == 0);
    ane_bridge_free_blob(blob);
    ane_bridge_free_blob(again);
}

static void test_shared_memory_and_submission(void) {
    ANEDeviceHandle *device = ane_bridge_open("emulator:m5/macos26");
    CHECK(device != NULL);
    char *text = ane_bridge_describe_device(device);
    CHECK(text != NULL && strstr(text, "m5/macos26") != NULL);
    ane_bridge_free_blob(text);
    text = ane_bridge_device_warning(device);
    CHECK(text != NULL && text[0] == '\0');
    ane_bridge_free_blob(text);
    ANEKernelHandle *kernel = compile_sum(device);
    CHECK(ane_bridge_input_count(kernel) == 2 && ane_bridge_output_count(kernel) == 1);
    CHECK(ane_bridge_input_bytes(kernel, 1) == 128 && ane_bridge_output_bytes(kernel, 0) == 128);
    text = ane_bridge_describe(kernel);
    CHECK(text != NULL && strstr(text, "\"name\":\"b\"") != NULL);
    ane_bridge_free_blob(text);

    CHECK(ane_bridge_poll(kernel) == -1);
    for (int input = 0; input < 2; input++) {
        size_t bytes = 0;
        uint16_t *memory = ane_bridge_lock_input(kernel, input, &bytes);
        CHECK(memory != NULL && bytes == 128);
        for (int i = 0; i < 64; i++) memory[i] = 0x3c00; /* 1 */
        CHECK(!ane_bridge_eval(kernel));
        SAYS("is locked");
        CHECK(ane_bridge_unlock_input(kernel, input));
    }
    CHECK(ane_bridge_submit(kernel));
    CHECK(ane_bridge_wait(kernel, -1) == 1);
    CHECK(ane_bridge_poll(kernel) == 1);
    const uint16_t *sum = ane_bridge_lock_output(kernel, 0, NULL);
    CHECK(sum != NULL);
    for (int i = 0; i < 64; i++) CHECK(sum[i] == 0x4000); /* 2 */
    CHECK(ane_bridge_unlock_output(kernel, 0));
    CHECK(!ane_bridge_unlock_output(kernel, 0));
    CHECK(ane_bridge_submit(kernel));
    ane_bridge_close(device);
    ane_bridge_close(device);
    SAYS("not a device in use");
    ane_bridge_free(kernel);
    CHECK(ane_bridge_wait(kernel, 10) == -1);
}

static void test_misuse(void) {
    ANEKernelHandle *kernel = compile_sum(NULL);
    uint16_t data[128] = {0};
    CHECK(!ane_bridge_write_input(kernel, 0, data, sizeof data));
    SAYS("128 bytes, but 256");
    CHECK(!ane_bridge_write_input(kernel, 2, data, 128));
    CHECK(!ane_bridge_write_input(kernel, -1, data, 128));
    CHECK(!ane_bridge_write_input(kernel, 0, NULL, 128));
    CHECK(!ane_bridge_read_output(kernel, 0, data, sizeof data));
    CHECK(!ane_bridge_read_output(kernel, 1, data, 128));
    size_t wrong[2] = {128, 12};
    CHECK(ane_bridge_compile(SUM, strlen(SUM), NULL, 0, 2, wrong, 0, NULL) == NULL);
    SAYS("12 bytes");
    CHECK(ane_bridge_compile("program(1.3)", 12, NULL, 0, 0, NULL, 0, NULL) == NULL);
    SAYS("not a valid MIL program");
    CHECK(ane_bridge_open("toaster") == NULL);
    char *text = ane_bridge_check("m1", LINEAR, strlen(LINEAR));
    CHECK(text != NULL && strstr(text, "ANE021") != NULL);
    ane_bridge_free_blob(text);
    text = ane_bridge_estimate("m1", LINEAR, strlen(LINEAR));
    CHECK(text != NULL && strstr(text, "\"seconds\":") != NULL);
    ane_bridge_free_blob(text);

    ane_bridge_free(kernel);
    ane_bridge_free(kernel);
    SAYS("not a kernel in use");
    int local = 0;
    CHECK(ane_bridge_device_warning((ANEDeviceHandle *)&local) == NULL);
    ANEKernelHandle *wild[] = {NULL, kernel, (ANEKernelHandle *)&local, (ANEKernelHandle *)1};
    for (int i = 0; i < 4; i++) {
        CHECK(!ane_bridge_eval(wild[i]));
        CHECK(!ane_bridge_write_input(wild[i], 0, data, 128));
        CHECK(!ane_bridge_read_output(wild[i], 0, data, 128));
        CHECK(!ane_bridge_submit(wild[i]));
        CHECK(ane_bridge_lock_input(wild[i], 0, NULL) == NULL);
        CHECK(ane_bridge_describe(wild[i]) == NULL);
        ane_bridge_free(wild[i]);
    }
}

static ANEKernelHandle *shared[2];

static void *hammer(void *argument) {
    unsigned thread = *(unsigned *)argument;
    uint16_t data[64];
    for (unsigned i = 0; i < 50; i++) {
        ANEKernelHandle *kernel = shared[(i + thread) % 2];
        if (i % 3 == 0) ane_bridge_submit(kernel);
        for (int j = 0; j < 64; j++) data[j] = 0x3c00;
        CHECK(ane_bridge_write_input(kernel, (int)(i % 2), data, sizeof data));
        CHECK(ane_bridge_eval(kernel));
        CHECK(ane_bridge_read_output(kernel, 0, data, sizeof data));
        CHECK(data[0] <= 0x4000);
        if (i % 10 == 0) {
            ANEKernelHandle *own = compile_sum(NULL);
            CHECK(ane_bridge_eval(own));
            ane_bridge_free(own);
        }
    }
    CHECK(!ane_bridge_eval(NULL));
    SAYS("kernel is null");
    return NULL;
}

static void test_threads(void) {
    pthread_t threads[8];
    unsigned numbers[8];
    for (int i = 0; i < 2; i++) shared[i] = compile_sum(NULL);
    for (unsigned i = 0; i < 8; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, hammer, &numbers[i]) == 0);
    }
    for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) ane_bridge_free(shared[i]);
}

/* The child has none of the parent's threads: its calls fail, where they would wait for ever. */
static void test_fork(void) {
    ANEKernelHandle *kernel = compile_sum(NULL);
    CHECK(ane_bridge_eval(kernel));
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(30);
        int silent = ane_bridge_eval(kernel) || ane_bridge_submit(kernel) ||
                     ane_bridge_wait(kernel, -1) != -1 || ane_bridge_init() == 0 ||
                     strstr(ane_bridge_last_error(), "forked") == NULL;
        ane_bridge_free(kernel);
        /* By a signal, so that valgrind does not look for what the parent's threads hold. */
        kill(getpid(), silent ? SIGTERM : SIGKILL);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGKILL);
    CHECK(ane_bridge_eval(kernel));
    ane_bridge_free(kernel);
    CHECK(strcmp(ane_bridge_last_error(), "") == 0);
}

int main(void) {
    test_before_init();
    test_linear();
    test_quantized();
    test_shared_memory_and_submission();
    test_misuse();
    test_threads();
    test_fork();
    puts("all C tests passed");
    return 0;
}
