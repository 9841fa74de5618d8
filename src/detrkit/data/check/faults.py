"""Every fault that a check can find, in words: what it is, what it does to training, how it is mended.

The names are stable: scripts may rely on them.
"""

from detrkit.data.check.findings import Fault

# --- the file of annotations

ANNOTATIONS_REFUSED = Fault(
    "annotations-refused",
    "error",
    "the annotations cannot be read",
    "training does not start",
    "mend the entry that is named, or export the annotations again",
)
JSON_LENIENT = Fault(
    "json-lenient",
    "error",
    "the file is no strict JSON: it has NaN, Infinity, a byte order mark or another encoding than UTF-8",
    "training does not start",
    "write numbers and UTF-8 alone; --fix does",
)
NO_IMAGES = Fault(
    "no-images",
    "error",
    "no images are listed",
    "there is nothing to train on",
    "name the images of the split",
)
NO_CATEGORIES = Fault(
    "no-categories", "error", "no categories are listed", "nothing can be learned", "name every class"
)
NO_OBJECTS = Fault(
    "no-objects",
    "warning",
    "no object is annotated",
    "as a training split it is refused, and as a validation split its AP is undefined",
    "annotate some images, or leave the split out",
)

# --- ids and classes

ID_TYPE = Fault(
    "id-type",
    "error",
    'ids are missing or are no whole numbers, such as "7" in quotes',
    "training does not start: the entry and what refers to it do not find each other",
    "write ids as whole numbers without quotes; --fix does",
)
IMAGE_ID_REPEATS = Fault(
    "image-id-repeats",
    "error",
    "images share an id",
    "objects cannot be told apart between them, so training does not start",
    "give each image an id of its own; --fix keeps the objects with the first",
)
ANNOTATION_ID_REPEATS = Fault(
    "annotation-id-repeats",
    "error",
    "annotations share an id",
    "evaluation would count one of them only, so training does not start",
    "number the annotations; --fix does",
)
ANNOTATION_ID_RESTARTS = Fault(
    "annotation-id-restarts",
    "error",
    "the ids of annotations begin anew in every image",
    "evaluation would count one object of each id only, so training does not start",
    "number the annotations over the whole file; --fix does",
)
ANNOTATION_ID_MISSING = Fault(
    "annotation-id-missing",
    "note",
    "annotations have no id",
    "none here, they are numbered; other tools refuse the file",
    "number the annotations; --fix does",
)
CATEGORY_ID_REPEATS = Fault(
    "category-id-repeats",
    "error",
    "categories share an id",
    "two classes would be one, so training does not start",
    "give each category an id of its own, and say so in its annotations",
)
CATEGORY_NAME_REPEATS = Fault(
    "category-name-repeats",
    "error",
    "categories share a name",
    "one class would be two that suppress each other, so training does not start",
    "make them one category; --fix does",
)
CATEGORY_NAME_EMPTY = Fault(
    "category-name-empty",
    "error",
    "categories have no name",
    "nobody can tell what was found, and weights cannot be matched to the class",
    "name the class; --fix calls it 'class ID'",
)
CATEGORY_NAMES_ALIKE = Fault(
    "category-names-alike",
    "warning",
    "names of categories differ in capitals or spaces alone",
    "what looks like one class is learned as two that suppress each other",
    "make them one category, unless two are meant",
)
CATEGORY_UNKNOWN = Fault(
    "category-unknown",
    "error",
    "annotations have a category_id that no category has",
    "their class is not known, so training does not start",
    "add the category, or correct the ids; --fix leaves the annotations out",
)
IMAGE_UNKNOWN = Fault(
    "image-unknown",
    "error",
    "annotations have an image_id that no image has",
    "their image is not known, so training does not start",
    "add the image, or correct the ids; --fix leaves the annotations out",
)
CATEGORY_IDS_GAPS = Fault(
    "category-ids-gaps",
    "note",
    "the ids of categories are not 1 to their number",
    "none: labels are positions in the sorted list; code that takes an id as a label would be off",
    "none is needed",
)
CLASS_WITHOUT_EXAMPLES = Fault(
    "class-without-examples",
    "warning",
    "classes have no example in any split",
    "they are never found, and evaluation leaves them out of the mean",
    "annotate some, or remove the category",
)

# --- splits

CLASS_ABSENT = Fault(
    "class-absent-from-split",
    "warning",
    "classes have examples in another split, and none here",
    "without training examples a class is never found; without validation examples nobody sees whether it is",
    "split the images anew, stratified by class",
)
CATEGORIES_DIFFER = Fault(
    "categories-differ",
    "error",
    "splits list other categories",
    "a label would mean one class in one split and another in the next, so training does not start",
    "give all splits the same ids and names; --fix does, by name",
)
IMAGE_LEAK = Fault(
    "image-leak",
    "error",
    "images of one split are in another one too, byte for byte",
    "validation measures what was learned by heart: its AP is too high",
    "keep each image in one split; --fix takes them out of the larger split",
)
SPLIT_CONTAINS = Fault(
    "split-contains-split",
    "note",
    "a split lists all images of another one, as VOC's trainval does",
    "training on it and validating on the other measures what was learned by heart",
    "train on one of the parts, or validate on a split that is apart",
)
IMAGE_DUPLICATE = Fault(
    "image-duplicate",
    "warning",
    "images have the same content as another of their split",
    "they count more than once, and where their objects differ they teach a contradiction",
    "keep one of them with all its objects; --fix keeps the one with most objects",
)

# --- boxes

BOX_NOT_NUMBERS = Fault(
    "box-not-numbers",
    "error",
    "bboxes are not four numbers",
    "training does not start",
    "write [x, y, width, height] in pixels, without quotes; --fix leaves the annotations out",
)
BOX_NOT_FINITE = Fault(
    "box-not-finite",
    "error",
    "bboxes hold NaN, infinity or a number beyond any image",
    "a single one makes the loss NaN, so training does not start",
    "correct the boxes; --fix leaves the annotations out",
)
BOX_NEGATIVE = Fault(
    "box-negative-size",
    "error",
    "bboxes have a negative width or height",
    "they have no area, so their objects are learned as background",
    "write the upper left corner first; --fix turns them round",
)
BOX_WITHOUT_AREA = Fault(
    "box-without-area",
    "warning",
    "bboxes have a width or height of 0",
    "they are left out of training, and evaluation counts them as objects that are missed",
    "draw the boxes again; --fix leaves the annotations out",
)
BOX_TINY = Fault(
    "box-tiny",
    "warning",
    "bboxes are at most one pixel wide or high",
    "nothing of the object is to be seen in one: mostly a slip of the mouse, learned as noise",
    "draw the boxes again or remove them; --fix leaves them, for it cannot know",
)
BOX_OUTSIDE = Fault(
    "box-outside",
    "warning",
    "bboxes reach outside their image",
    "training clips them, and evaluation does not: what is found of the visible part has an IoU below 1",
    "clip the boxes; --fix does",
)
BOX_BEYOND = Fault(
    "box-beyond",
    "error",
    "bboxes lie wholly outside their image",
    "they are left out of training and cannot be found in evaluation; often width and height are swapped",
    "correct the boxes or the image's size; --fix leaves the annotations out",
)
BOXES_WRONG_ORDER = Fault(
    "boxes-wrong-order",
    "error",
    "bboxes look like [left, top, right, bottom], for COCO's [x, y, width, height]",
    "boxes that begin at the right place and are far too large are learned: the AP stays near 0",
    "write width and height in the third and fourth place; --fix does",
)
BOXES_NORMALISED = Fault(
    "boxes-normalised",
    "error",
    "bboxes are fractions of the image, where COCO has pixels",
    "all objects are smaller than a pixel in the upper left corner: the AP stays 0",
    "multiply by the image's width and height; --fix does",
)
BOXES_ONE_BASED = Fault(
    "boxes-one-based",
    "warning",
    "bboxes look counted from 1: none begins before 1, and many do exactly there",
    "all boxes are a pixel off, which costs AP at high IoUs and with small objects most",
    "take 1 from x and y; --fix does",
)
BOX_REPEATS = Fault(
    "box-repeats",
    "warning",
    "annotations repeat the class and box of another one of their image",
    "two queries are taught to answer at one place, and evaluation misses one of the two",
    "keep one of them; --fix does",
)
TOO_MANY_OBJECTS = Fault(
    "too-many-objects",
    "warning",
    "images have more objects than the detector has queries",
    "the objects beyond them cannot be found and, in training, are left out by chance of the matching",
    "raise model.decoder.queries above the most objects of an image, or cut the images into tiles",
)
CROWDS = Fault(
    "crowds",
    "note",
    "annotations are regions of crowds (COCO's iscrowd, VOC's difficult)",
    "they are left out of training, and evaluation neither counts nor punishes what is found in them",
    "none is needed",
)
CROWD_FLAG = Fault(
    "crowd-flag",
    "error",
    "annotations have an iscrowd that is neither 0 nor 1",
    "training does not start, for they may be objects or regions to ignore",
    "write 0 for objects and 1 for regions; --fix writes 0",
)
AREA_MISSING = Fault(
    "area-missing",
    "note",
    "annotations have no area",
    "none here, their box's is taken; other tools refuse the file",
    "write the area of the object, or its box's; --fix does",
)
AREA_WRONG = Fault(
    "area-wrong",
    "warning",
    "annotations have an area that is negative or larger than their box's",
    "AP of small, medium and large objects counts them in a wrong class of size",
    "write the area of the object in pixels; --fix writes the box's",
)

# --- entries of images

SIZE_INVALID = Fault(
    "image-size-invalid",
    "error",
    "images state no width and height of at least 1 pixel",
    "boxes cannot be scaled, so training does not start",
    "write the size of the stored pixels; --fix does",
)
FILE_NAME_MISSING = Fault(
    "file-name-missing", "error", "images state no file_name", "training does not start", "name the file"
)
FILE_NAME_OUTSIDE = Fault(
    "file-name-outside",
    "error",
    "file names are absolute, or climb out of the images' folder",
    "training does not start: such names break on every other machine, and can reach any file of this one",
    "write names relative to the images' folder; --fix leaves the images out",
)
FILE_NAME_REPEATS = Fault(
    "file-name-repeats",
    "warning",
    "images state the file of another entry",
    "objects of one entry are background in the other: they teach a contradiction",
    "make them one image with all objects; --fix does",
)
IMAGES_WITHOUT_OBJECTS = Fault(
    "images-without-objects",
    "note",
    "images have no objects",
    "they are trained on as background, which is right if there is nothing in them",
    "none, if nothing is to be found in them; otherwise annotate them",
)
IMAGE_MISSING = Fault(
    "image-missing",
    "error",
    "files of images do not exist",
    "training does not start",
    "restore the files or correct their names; --fix leaves the images out",
)
IMAGE_UNLISTED = Fault(
    "image-unlisted",
    "note",
    "image files lie in the folder, and no entry lists them",
    "none: they are not used",
    "list them, if they should be",
)

# --- image files

IMAGE_UNREADABLE = Fault(
    "image-unreadable",
    "error",
    "files are no images that can be read",
    "training ends where it meets the first of them, perhaps after hours",
    "restore the files; --fix leaves the images out",
)
IMAGE_TRUNCATED = Fault(
    "image-truncated",
    "error",
    "images end before their last pixel",
    "training ends where it meets the first of them, perhaps after hours",
    "copy or fetch the files again; --fix leaves the images out",
)
IMAGE_SIZE_DIFFERS = Fault(
    "image-size-differs",
    "error",
    "stored pixels have another size than the annotations state",
    "boxes would be scaled wrongly, so training ends where it meets the first of them",
    "restore the annotated files; --fix states the stored size, and scales boxes if the shape is the same",
)
IMAGE_ROTATED = Fault(
    "image-exif-rotated",
    "warning",
    "images are stored lying, and turned by an entry of EXIF",
    "here the stated size decides whether they are turned; tools that ignore EXIF see boxes elsewhere",
    "store the pixels upright, without the entry; --fix does where the annotations are upright",
)
IMAGE_GREY = Fault(
    "image-grey",
    "note",
    "images are grey",
    "none: the grey is taken for red, green and blue",
    "none is needed",
)
IMAGE_CMYK = Fault(
    "image-cmyk",
    "note",
    "images are stored in the colours of printing (CMYK)",
    "they are converted without a colour profile, so that their colours are somewhat off",
    "store them as RGB",
)
IMAGE_16_BIT = Fault(
    "image-16-bit",
    "note",
    "images have 16 bits per value",
    "they are scaled to 8 bits from the full range of 65,535: 12-bit pictures come out nearly black",
    "store them with 8 bits, stretched to their real range",
)
IMAGE_FLOAT = Fault(
    "image-float",
    "error",
    "images hold floating-point values",
    "training ends where it meets the first of them, since their range is not known",
    "store them with 8 bits; --fix leaves the images out",
)
IMAGE_TRANSPARENT = Fault(
    "image-transparent",
    "note",
    "images have an alpha channel or a transparent colour",
    "it is dropped: hidden pixels appear in the colour that is stored below",
    "store them without transparency",
)
IMAGE_ANIMATED = Fault(
    "image-animated",
    "note",
    "images have several frames or pages",
    "the first is used",
    "store each frame as an image, if all are meant",
)
