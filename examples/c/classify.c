/* The logits of pictures, by the ONNX file of a bundle, through OpenVINO's C API; and which of them get no answer.
 *
 *     classify [-t THRESHOLD] MODEL.onnx PICTURE.pgm...
 *
 * A PICTURE is a grey binary PGM (P5, 8 bits) of the size that the network takes: 299 x 299 for Xception. It has been
 * through the preprocessing that the bundle's bundle.json describes (see README.md); the graph does the rest.
 * Prints a line for each picture: its logits, in the order of the bundle's labels; of a model that has the output ood,
 * that too, and with a THRESHOLD whether the picture is answered or abstained from. Stops at the first that it can't use.
 *
 * Exit codes are those of edgecxr: 1 the picture, 2 the call, 3 the model, 4 OpenVINO, 70 memory or the output. */

#include <errno.h>
#include <math.h>
#include <openvino/c/openvino.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BAD_PICTURE = 1, BAD_CALL = 2, BAD_MODEL = 3, NO_ENGINE = 4, UNEXPECTED_END = 70 };

/* Everything that has to be given back, in the order in which it is made; and whether the model has the output ood. */
struct session {
    ov_core_t *core;
    ov_model_t *model;
    ov_compiled_model_t *compiled;
    ov_infer_request_t *request;
    bool has_ood;
};

/* Says what failed in one sentence, with the last line of OpenVINO's reason (those before it name its source files). */
static int refuse(int code, const char *what) {
    const char *message = ov_get_last_err_msg();
    const char *end = message ? message + strlen(message) : "";
    while (message && end > message && strchr("\n\r ", end[-1])) end--;
    const char *start = end;
    while (message && start > message && start[-1] != '\n') start--;
    if (end > start)
        fprintf(stderr, "classify: %s (%.*s)\n", what, (int)(end - start), start);
    else
        fprintf(stderr, "classify: %s\n", what);
    ov_free(message);
    return code;
}

/* The next number of a PGM header, after spaces and comments; -1 where there is none or it is absurd. */
static long header_number(FILE *file) {
    int c = fgetc(file);
    while (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF) c = fgetc(file);
        else
            c = fgetc(file);
    }
    long number = -1;
    for (; c >= '0' && c <= '9'; c = fgetc(file)) {
        number = 10 * (number < 0 ? 0 : number) + (c - '0');
        if (number > 1000000) return -1;
    }
    if (c != EOF) ungetc(c, file);
    return number;
}

/* Reads a P5 picture of exactly width x height into memory that the caller frees. */
static int read_pgm(const char *path, long width, long height, uint8_t **picture) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "classify: the picture can't be opened (%s): %s\n", strerror(errno), path);
        return BAD_PICTURE;
    }
    int code = BAD_PICTURE;
    const bool p5 = fgetc(file) == 'P' && fgetc(file) == '5';
    const long found_width = p5 ? header_number(file) : -1, found_height = p5 ? header_number(file) : -1;
    const long levels = p5 ? header_number(file) : -1;
    const size_t size = (size_t)width * (size_t)height;
    if (found_width < 1 || found_height < 1 || levels < 1) {
        fprintf(stderr, "classify: expected a grey binary PGM (P5), got something else: %s\n", path);
    } else if (levels != 255) {
        fprintf(stderr, "classify: expected a PGM of 255 grey levels, got %ld: %s\n", levels, path);
    } else if (found_width != width || found_height != height) {
        fprintf(stderr, "classify: expected a picture of %ld x %ld, got %ld x %ld: %s\n", width, height, found_width,
                found_height, path);
    } else if (!(*picture = malloc(size))) {
        fprintf(stderr, "classify: no memory for the picture\n");
        code = UNEXPECTED_END;
    } else {
        fgetc(file); /* the one white space between header and samples */
        const size_t found = fread(*picture, 1, size, file);
        if (found != size)
            fprintf(stderr, "classify: expected %zu bytes of samples, got %zu: %s\n", size, found, path);
        else if (fgetc(file) != EOF)
            fprintf(stderr, "classify: expected %zu bytes of samples, got more: %s\n", size, path);
        else
            code = 0;
    }
    fclose(file);
    return code;
}

/* The height and width of the model's input, which must be uint8 (any or 1, height, width, 1). */
static bool input_size(const ov_model_t *model, int64_t *height, int64_t *width) {
    ov_output_const_port_t *port = NULL;
    ov_partial_shape_t shape = {0};
    ov_element_type_e type = DYNAMIC;
    bool fits = false;
    if (!ov_model_const_input(model, &port) && !ov_port_get_element_type(port, &type) &&
        !ov_port_get_partial_shape(port, &shape)) {
        const ov_dimension_t *side = shape.dims;
        fits = type == U8 && shape.rank.min == 4 && shape.rank.max == 4 && side[1].min == side[1].max &&
               side[2].min == side[2].max && side[1].max > 0 && side[1].max < 65536 && side[2].max > 0 &&
               side[2].max < 65536 && side[3].min == 1 && side[3].max == 1;
        if (fits) {
            *height = side[1].min;
            *width = side[2].min;
        }
        ov_partial_shape_free(&shape);
    }
    ov_output_const_port_free(port);
    return fits;
}

/* Whether the model has the output ood: how far a picture is from frontal chest films. */
static bool has_ood(const ov_model_t *model) {
    ov_output_const_port_t *port = NULL;
    const bool found = !ov_model_const_output_by_name(model, "ood", &port);
    if (found)
        ov_output_const_port_free(port);
    else
        ov_free(ov_get_last_err_msg()); /* it was only asked */
    return found;
}

/* Compiles the model for single pictures: with a known batch size it is a tenth faster. */
static int load(struct session *s, const char *path, int64_t *height, int64_t *width) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "classify: the model can't be opened (%s): %s\n", strerror(errno), path);
        return BAD_MODEL;
    }
    fclose(file);
    if (ov_core_create(&s->core)) return refuse(NO_ENGINE, "OpenVINO can't be used");
    if (ov_core_read_model(s->core, path, NULL, &s->model)) return refuse(BAD_MODEL, "OpenVINO can't read the model");
    if (!input_size(s->model, height, width)) {
        fprintf(stderr, "classify: expected a model whose one input is uint8 (N, height, width, 1), got another: %s\n",
                path);
        return BAD_MODEL;
    }
    s->has_ood = has_ood(s->model);
    const int64_t dims[] = {1, *height, *width, 1};
    ov_partial_shape_t single = {0};
    if (ov_partial_shape_create_static(4, dims, &single)) return refuse(UNEXPECTED_END, "no shape can be made");
    const ov_status_e reshaped = ov_model_reshape_single_input(s->model, single);
    ov_partial_shape_free(&single);
    if (reshaped) return refuse(BAD_MODEL, "the model can't be set to single pictures");
    /* Said, because OpenVINO's own choice on CPUs with bfloat16 is bfloat16. An int8 model's float parts are meant. */
#ifdef __aarch64__ /* OpenVINO 2026.3 and 2026.4 can't make our int8 models integers there, and end; floats they can. */
    if (ov_core_compile_model(s->core, s->model, "CPU", 4, &s->compiled, ov_property_key_hint_inference_precision,
                              "f32", "LP_TRANSFORMS_MODE", "NO"))
#else
    if (ov_core_compile_model(s->core, s->model, "CPU", 2, &s->compiled, ov_property_key_hint_inference_precision,
                              "f32"))
#endif
        return refuse(BAD_MODEL, "OpenVINO can't compile the model");
    if (ov_compiled_model_create_infer_request(s->compiled, &s->request))
        return refuse(NO_ENGINE, "OpenVINO can't make a request");
    return 0;
}

/* The float32 numbers that the last run gave as the output of this name; they belong to the tensor, which the caller
 * frees. NULL where there is no such output. */
static const float *output(const struct session *s, const char *name, ov_tensor_t **tensor, size_t *count) {
    ov_element_type_e type = DYNAMIC;
    void *data = NULL;
    if (ov_infer_request_get_tensor(s->request, name, tensor) || ov_tensor_get_element_type(*tensor, &type) ||
        ov_tensor_get_size(*tensor, count) || ov_tensor_data(*tensor, &data) || type != F32)
        return NULL;
    return data;
}

/* Runs the model on height x width samples and prints what it gives. No picture reaches an infinite threshold. */
static int classify(const struct session *s, uint8_t *picture, int64_t height, int64_t width, double threshold) {
    const int64_t dims[] = {1, height, width, 1};
    ov_shape_t shape = {0};
    ov_tensor_t *image = NULL, *first = NULL, *second = NULL;
    if (ov_shape_create(4, dims, &shape)) return refuse(UNEXPECTED_END, "no shape can be made");
    const ov_status_e wrapped = ov_tensor_create_from_host_ptr(U8, shape, picture, &image);
    ov_shape_free(&shape);
    if (wrapped) return refuse(UNEXPECTED_END, "no tensor can be made");
    const ov_status_e set = ov_infer_request_set_input_tensor(s->request, image);
    ov_tensor_free(image);
    if (set || ov_infer_request_infer(s->request)) return refuse(NO_ENGINE, "OpenVINO can't run the model");

    size_t count = 0, scores = 0;
    int code = 0;
    const float *logits = output(s, "logits", &first, &count);
    const float *ood = s->has_ood ? output(s, "ood", &second, &scores) : NULL;
    if (!logits || (s->has_ood && (!ood || scores != 1))) {
        fprintf(stderr, "classify: expected a model with float32 outputs logits and, if any, ood (1, 1), got another\n");
        code = BAD_MODEL;
    } else {
        for (size_t i = 0; i < count; i++) printf("%s%.9g", i ? " " : "", (double)logits[i]);
        if (ood) printf(" ood %.9g", (double)ood[0]);
        /* Written so that a NaN is no answer. */
        if (isfinite(threshold)) printf(ood && ood[0] < threshold ? " answered" : " abstained");
        printf("\n");
        if (fflush(stdout) || ferror(stdout)) {
            fprintf(stderr, "classify: the logits can't be written (%s)\n", strerror(errno));
            code = UNEXPECTED_END;
        }
    }
    ov_tensor_free(first);
    ov_tensor_free(second);
    return code;
}

int main(int argc, char **argv) {
    double threshold = INFINITY;
    int first = 1;
    if (argc > 2 && !strcmp(argv[1], "-t")) {
        char *end = NULL;
        threshold = strtod(argv[2], &end);
        if (end == argv[2] || *end || !isfinite(threshold)) {
            fprintf(stderr, "classify: expected a finite THRESHOLD behind -t, got %s\n", argv[2]);
            return BAD_CALL;
        }
        first = 3;
    }
    if (argc < first + 2) {
        fprintf(stderr, "classify: expected [-t THRESHOLD] MODEL.onnx PICTURE.pgm..., got %d argument(s)\n",
                argc > 0 ? argc - 1 : 0);
        return BAD_CALL;
    }
    struct session s = {0};
    int64_t height = 0, width = 0;
    int code = load(&s, argv[first], &height, &width);
    if (!code && isfinite(threshold) && !s.has_ood) {
        fprintf(stderr, "classify: expected a model with the output ood for a THRESHOLD, got another: %s\n", argv[first]);
        code = BAD_CALL;
    }
    for (int i = first + 1; i < argc && !code; i++) {
        uint8_t *picture = NULL;
        code = read_pgm(argv[i], (long)width, (long)height, &picture);
        if (!code) code = classify(&s, picture, height, width, threshold);
        free(picture);
    }
    ov_infer_request_free(s.request);
    ov_compiled_model_free(s.compiled);
    ov_model_free(s.model);
    ov_core_free(s.core);
    return code;
}
