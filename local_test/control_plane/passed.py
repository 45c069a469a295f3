"""What is passed to moto on purpose, because its answer is right. Every other operation is done here, or refused.

A service stands here under the name that its clients sign with.
"""

from __future__ import annotations

from collections.abc import Mapping

PASSED: Mapping[str, frozenset[str]] = {
    name: frozenset(operations.split())
    for name, operations in {
        # What the project's commands and the SDKs read and write; no bucket sends events, replicates or is a web site.
        "s3": """
            AbortMultipartUpload CompleteMultipartUpload CopyObject CreateBucket CreateMultipartUpload DeleteBucket
            DeleteBucketCors DeleteBucketEncryption DeleteBucketLifecycle DeleteBucketOwnershipControls
            DeleteBucketPolicy DeleteBucketTagging DeleteObject DeleteObjectTagging DeleteObjects
            DeletePublicAccessBlock GetBucketAcl GetBucketCors GetBucketEncryption GetBucketLifecycleConfiguration
            GetBucketLocation GetBucketOwnershipControls GetBucketPolicy GetBucketTagging GetBucketVersioning GetObject
            GetObjectAcl GetObjectAttributes GetObjectTagging GetPublicAccessBlock HeadBucket HeadObject ListBuckets
            ListMultipartUploads ListObjectVersions ListObjects ListObjectsV2 ListParts PutBucketCors
            PutBucketEncryption PutBucketLifecycleConfiguration PutBucketOwnershipControls PutBucketPolicy
            PutBucketTagging PutBucketVersioning PutObject PutObjectTagging PutPublicAccessBlock UploadPart
            UploadPartCopy
        """,
        # Roles and their policies, which are kept and shown; nothing is judged by them.
        "iam": """
            AttachRolePolicy CreatePolicy CreatePolicyVersion CreateRole CreateServiceLinkedRole DeletePolicy
            DeletePolicyVersion DeleteRole DeleteRolePolicy DetachRolePolicy GetPolicy GetPolicyVersion GetRole
            GetRolePolicy ListAttachedRolePolicies ListEntitiesForPolicy ListPolicies ListPolicyTags ListPolicyVersions
            ListRolePolicies ListRoleTags ListRoles PutRolePolicy SetDefaultPolicyVersion TagPolicy TagRole UntagPolicy
            UntagRole UpdateAssumeRolePolicy UpdateRole UpdateRoleDescription
        """,
        "sts": "AssumeRole GetCallerIdentity GetSessionToken",
        # Streams and their events; no filter makes metrics, nothing is exported, and no query is run.
        "logs": """
            CreateLogGroup CreateLogStream DeleteLogGroup DeleteLogStream DeleteRetentionPolicy DescribeLogGroups
            DescribeLogStreams FilterLogEvents GetLogEvents ListTagsForResource ListTagsLogGroup PutLogEvents
            PutRetentionPolicy TagLogGroup TagResource UntagLogGroup UntagResource
        """,
        "monitoring": """
            DeleteAlarms DescribeAlarms DescribeAlarmsForMetric GetMetricData GetMetricStatistics ListMetrics
            ListTagsForResource PutMetricAlarm PutMetricData SetAlarmState TagResource UntagResource
        """,
        # Targets and policies are kept and shown; nothing is scaled, so nothing is scheduled either.
        "application-autoscaling": """
            DeleteScalingPolicy DeregisterScalableTarget DescribeScalableTargets DescribeScalingPolicies
            PutScalingPolicy RegisterScalableTarget
        """,
        # Repositories and their settings; their images are ours.
        "ecr": """
            DeleteLifecyclePolicy DeleteRepositoryPolicy GetLifecyclePolicy GetRepositoryPolicy ListTagsForResource
            PutImageScanningConfiguration PutImageTagMutability PutLifecyclePolicy SetRepositoryPolicy TagResource
            UntagResource
        """,
    }.items()
}
